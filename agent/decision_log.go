package agent

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"kcagent/sink"
)

// tried counts the first attempt to open p. After that of the last partition, one
// line says where start was applied.
func (s *session) tried(p *partition) {
	if p.tried {
		return
	}
	p.tried = true
	if s.untried.Add(-1) == 0 {
		s.starts.log(s)
	}
}

// startCount counts the partitions that start was applied to.
type startCount struct {
	mu         sync.Mutex
	n, later   int
	individual bool // no more line for many
}

func (c *startCount) log(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.individual = true; c.n > 0 {
		s.log.Info(noCommittedStart.message, "start", s.spec.Start.String(), "partitions", c.n, "added_later", c.later)
	}
	c.n, c.later = 0, 0
}

// logDecision logs and counts why p resumes where it does.
func (s *session) logDecision(p *partition, d decision, c commitment, l sink.Ledger) {
	log := s.log.With("topic", p.Topic, "partition", p.Partition)
	switch d.reason {
	case noCommittedStart:
		s.stats.starts.Add(1)
		s.starts.mu.Lock()
		s.starts.n++
		if p.addedLater {
			s.starts.later++
		}
		alone := s.starts.individual
		s.starts.mu.Unlock()
		if alone {
			s.starts.log(s)
		}
		return
	case topicRecreated:
		s.stats.offsetResets.Add(1)
		log = log.With("policy", string(s.spec.OnOutOfRange))
	case atExternalReset:
		s.stats.offsetResets.Add(1)
	case atCommitOfCopy:
		s.stats.ledgerCopies.Add(1)
		from, gap, offset := any("unknown"), any("unknown"), "FROM"
		if l.Next >= 0 {
			from, gap, offset = l.Next, c.offset-l.Next, strconv.FormatInt(l.Next, 10)
		}
		log = log.With("from", from, "to", c.offset, "gap", gap, "next_step", fmt.Sprintf(
			"to read the missing records again, stop the consumer, run kafka-consumer-groups --group %s --topic %s:%d --reset-offsets --to-offset %s --execute, and start it",
			s.spec.Group, p.Topic, p.Partition, offset))
	case atMismatch:
		s.stats.ledgerCopies.Add(1)
		log = log.With("next_step", "if the file and its checkpoint are a copy or a restored backup, find the first record that is missing, stop the consumer, reset the group's offset to it, and start the consumer")
	}
	log.Log(context.Background(), d.reason.level, d.reason.message, "offset", d.offset, "committed", c.offset, "in_file", l.Next)
}
