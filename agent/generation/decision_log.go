package generation

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"kcagent/agent/offsets"
	"kcagent/logkey"
	"kcagent/sink"
)

// A startCount counts the partitions to which the start policy was applied, so that one log
// line reports all partitions of a new group.
type startCount struct {
	mu         sync.Mutex
	all, later int  // not reported yet; later: added after the group started
	opened     bool // every partition was opened once: each further one has a line of its own
}

// add counts a partition. It reports whether it has to be reported now.
func (c *startCount) add(addedLater bool) (now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all++
	if addedLater {
		c.later++
	}
	return c.opened
}

// take returns the numbers to report, and counts from 0.
func (c *startCount) take() (all, later int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, later = c.all, c.later
	c.all, c.later, c.opened = 0, 0, true
	return all, later
}

// countOpened counts the first attempt to open p. After that of the last partition, it
// reports to how many the start policy was applied.
func (g *Generation) countOpened(p *Partition) {
	if p.openAttempted {
		return
	}
	p.openAttempted = true
	if g.unopened.Add(-1) == 0 {
		g.logStarts()
	}
}

func (g *Generation) logStarts() {
	if all, later := g.starts.take(); all > 0 {
		g.env.Log.Info(offsets.NoCommittedStart.Message, logkey.Start, g.StartedWith.Start.String(), logkey.Partitions, all, logkey.AddedLater, later)
	}
}

// logDecision logs why p resumes where it does, and counts it.
func (g *Generation) logDecision(p *Partition, d offsets.Decision, c offsets.Committed, l sink.Ledger) {
	log := g.env.Log.With(logkey.Topic, p.Topic, logkey.Partition, p.Partition)
	switch d.Reason {
	case offsets.NoCommittedStart:
		g.env.Stats.Starts.Add(1)
		if g.starts.add(p.addedLater) {
			g.logStarts()
		}
		return
	case offsets.TopicRecreated:
		g.env.Stats.OffsetResets.Add(1)
		log = log.With(logkey.Policy, string(g.StartedWith.OnOutOfRange))
	case offsets.AtExternalReset:
		g.env.Stats.OffsetResets.Add(1)
	case offsets.AtCommitOfCopy:
		g.env.Stats.LedgerCopies.Add(1)
		from, gap, offset := any("unknown"), any("unknown"), "FROM"
		if l.Next >= 0 {
			from, gap, offset = l.Next, c.Offset-l.Next, strconv.FormatInt(l.Next, 10)
		}
		log = log.With(logkey.From, from, logkey.To, c.Offset, logkey.Gap, gap, logkey.NextStep, fmt.Sprintf(
			"to read the missing records again, stop the consumer, run kafka-consumer-groups --group %s --topic %s:%d --reset-offsets --to-offset %s --execute, and start it",
			g.StartedWith.Group, p.Topic, p.Partition, offset))
	case offsets.AtMismatch:
		g.env.Stats.LedgerCopies.Add(1)
		log = log.With(logkey.NextStep, "if the file and its checkpoint are a copy or a restored backup, find the first record that is missing, stop the consumer, reset the group's offset to it, and start the consumer")
	}
	log.Log(context.Background(), d.Reason.Level, d.Reason.Message, logkey.Offset, d.Offset, logkey.Committed, c.Offset, logkey.InFile, l.Next)
}
