package agent

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"kcagent/sink"
)

// countOpened counts the first attempt to open p. After that of the last partition, one
// line reports to how many the start policy was applied.
func (g *generation) countOpened(p *partition) {
	if p.openAttempted {
		return
	}
	p.openAttempted = true
	if g.unopened.Add(-1) == 0 {
		g.starts.log(g)
	}
}

// startCount counts the partitions that the start policy was applied to.
type startCount struct {
	mu         sync.Mutex
	all, later int
	individual bool // every partition was opened once: log each further one
}

func (c *startCount) log(g *generation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.individual = true; c.all > 0 {
		g.env.log.Info(noCommittedStart.message, "start", g.startedWith.Start.String(), "partitions", c.all, "added_later", c.later)
	}
	c.all, c.later = 0, 0
}

// logDecision logs and counts why p resumes where it does.
func (g *generation) logDecision(p *partition, d decision, c committedOffset, l sink.Ledger) {
	log := g.env.log.With("topic", p.Topic, "partition", p.Partition)
	switch d.reason {
	case noCommittedStart:
		g.env.stats.starts.Add(1)
		g.starts.mu.Lock()
		g.starts.all++
		if p.addedLater {
			g.starts.later++
		}
		alone := g.starts.individual
		g.starts.mu.Unlock()
		if alone {
			g.starts.log(g)
		}
		return
	case topicRecreated:
		g.env.stats.offsetResets.Add(1)
		log = log.With("policy", string(g.startedWith.OnOutOfRange))
	case atExternalReset:
		g.env.stats.offsetResets.Add(1)
	case atCommitOfCopy:
		g.env.stats.ledgerCopies.Add(1)
		from, gap, offset := any("unknown"), any("unknown"), "FROM"
		if l.Next >= 0 {
			from, gap, offset = l.Next, c.offset-l.Next, strconv.FormatInt(l.Next, 10)
		}
		log = log.With("from", from, "to", c.offset, "gap", gap, "next_step", fmt.Sprintf(
			"to read the missing records again, stop the consumer, run kafka-consumer-groups --group %s --topic %s:%d --reset-offsets --to-offset %s --execute, and start it",
			g.startedWith.Group, p.Topic, p.Partition, offset))
	case atMismatch:
		g.env.stats.ledgerCopies.Add(1)
		log = log.With("next_step", "if the file and its checkpoint are a copy or a restored backup, find the first record that is missing, stop the consumer, reset the group's offset to it, and start the consumer")
	}
	log.Log(context.Background(), d.reason.level, d.reason.message, "offset", d.offset, "committed", c.offset, "in_file", l.Next)
}
