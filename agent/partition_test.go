package agent

import (
	"testing"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/leader"
	"kcagent/sink"
)

// TestReopenDecidesAgainAfterARecreation: a sink without a ledger is reopened, and the topic
// was recreated meanwhile. The flushed position is about the deleted topic, also if the
// first attempt to resume in the new one fails.
func TestReopenDecidesAgainAfterARecreation(t *testing.T) {
	deleted, recreated := sink.Identity{Cluster: "k", Topic: "old"}, sink.Identity{Cluster: "k", Topic: "new"}
	for _, policy := range []policy{
		{start: startPoint{offset: sarama.OffsetOldest}, outOfRange: config.ResetEarliest},
		{start: startPoint{offset: sarama.OffsetNewest}, outOfRange: config.ResetLatest},
		{start: startPoint{offset: sarama.OffsetOldest}, outOfRange: config.Fail},
	} {
		p := newPartition(sink.TopicPartition{Topic: "t"})
		p.flowed = true
		p.committed = committedOffset{offset: 3, byAgent: true, meta: commitMetadata{lineage: "a", topic: deleted, partitions: -1}}
		p.beginRound(nil)
		p.setDecision(decision{offset: 3, lineage: "a", reason: atCommitted}, "", deleted)
		p.setPosition(sink.Position{Next: 3, Lineage: "a", Topic: deleted}, false, false)
		for attempt := range 3 {
			p.beginRound(nil)
			l := sink.Ledger{Position: sink.Position{Next: -1}}
			c, _ := p.decisionInput(&l)
			d := decide(c, l, recreated, policy)
			if d.reason != topicRecreated || d.offset >= 0 {
				t.Errorf("attempt %d resumes at %d: %s", attempt, d.offset, d.reason.message)
			}
			d.lineage = "b"
			p.setDecision(d, "", recreated)
		}
	}
}

// isClosed reports whether a channel is closed.
func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestPartitionFlowsAfterFlushAndCommit(t *testing.T) {
	for name, c := range map[string]struct {
		flushFirst, commitFirst bool
		flush, commit           bool // what the flusher does
		want                    phase
	}{
		"nothing is required":           {false, false, false, false, flowing},
		"a flush is required":           {true, false, false, false, adopting},
		"the flush was done":            {true, false, true, false, flowing},
		"a commit is required":          {false, true, true, false, adopting},
		"the commit was done":           {false, true, true, true, flowing},
		"both are required":             {true, true, true, false, adopting},
		"both were done":                {true, true, true, true, flowing},
		"a commit without a flush":      {true, true, false, true, adopting},
		"a commit that is not required": {false, false, true, true, flowing},
	} {
		p := newPartition(sink.TopicPartition{Topic: "t"})
		p.beginRound(nil)
		if _, ok := p.flushPoint(); ok {
			t.Errorf("%s: the flusher includes a partition without a position", name)
		}
		p.setDecision(decision{offset: 3}, "ledger", sink.Identity{})
		ready := p.setPosition(sink.Position{Next: 3}, c.flushFirst, c.commitFirst)
		at, ok := p.flushPoint()
		if !ok || at.startOnly || !at.unflushed {
			t.Errorf("%s: the flush point is %+v, %v", name, at, ok)
		}
		if c.flush && !p.recordFlush(at) {
			t.Errorf("%s: the flush point is obsolete", name)
		}
		if c.commit {
			p.recordCommit(at, commitMetadata{})
		}
		if p.phase != c.want || isClosed(ready) != (c.want == flowing) {
			t.Errorf("%s: phase %d, want %d; ready %v", name, p.phase, c.want, isClosed(ready))
		}
	}
}

func TestCommittedStartIsNeitherFlushedNorRead(t *testing.T) {
	p := newPartition(sink.TopicPartition{Topic: "t"})
	p.beginRound(nil)
	p.setDecision(decision{offset: -1}, "ledger", sink.Identity{})
	ready := p.setStart(sink.Position{Next: 3})
	at, ok := p.flushPoint()
	if !ok || !at.startOnly || at.unflushed || at.ledgerID != "" {
		t.Errorf("the flush point is %+v, %v", at, ok)
	}
	if !p.recordFlush(at) || isClosed(ready) {
		t.Error("ready without a commit")
	}
	if m := (commitMetadata{startOnly: true}); !p.needsCommit(at, m) {
		t.Error("the start needs no commit")
	} else if p.recordCommit(at, m); p.needsCommit(at, m) {
		t.Error("the start is committed twice")
	}
	if !isClosed(ready) || p.phase != committingStart {
		t.Errorf("after the commit: phase %d, ready %v", p.phase, isClosed(ready))
	}
	p.beginRound(nil)
	if _, ok := p.flushPoint(); ok || p.phase != opening {
		t.Errorf("the next round begins in phase %d", p.phase)
	}
}

func TestFlushPointsOfEarlierRoundsAreObsolete(t *testing.T) {
	p := newPartition(sink.TopicPartition{Topic: "t"})
	var ended error
	p.beginRound(func(cause error) { ended = cause })
	p.setDecision(decision{offset: 3}, "", sink.Identity{})
	p.setPosition(sink.Position{Next: 3}, false, false)
	p.accept(5, leader.Unknown)
	at, _ := p.flushPoint()
	if !at.unflushed {
		t.Error("accepted records need no flush")
	}
	p.beginRound(func(cause error) { ended = cause })
	if p.recordFlush(at) || p.hasFlushed() {
		t.Error("a flush of an earlier round counts")
	}
	if p.endRound(at.round, sink.ErrReopen); ended != nil {
		t.Error("a failed flush of an earlier round ends the present one")
	}
}
