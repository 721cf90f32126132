package generation

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/offsets"
	"kcagent/config"
	"kcagent/leader"
	"kcagent/sink"
)

// TestReopenDecidesAgainAfterARecreation: a sink without a ledger is reopened, and the topic
// was recreated meanwhile. The flushed position is about the deleted topic, also if the
// first attempt to resume in the new one fails.
func TestReopenDecidesAgainAfterARecreation(t *testing.T) {
	deleted, recreated := sink.Identity{Cluster: "k", Topic: "old"}, sink.Identity{Cluster: "k", Topic: "new"}
	for _, policy := range []offsets.Policy{
		{Start: offsets.StartPoint{Offset: sarama.OffsetOldest}, OutOfRange: config.ResetEarliest},
		{Start: offsets.StartPoint{Offset: sarama.OffsetNewest}, OutOfRange: config.ResetLatest},
		{Start: offsets.StartPoint{Offset: sarama.OffsetOldest}, OutOfRange: config.Fail},
	} {
		p := newPartition(sink.TopicPartition{Topic: "t"})
		p.flowed = true
		p.committed = offsets.Committed{Offset: 3, ByAgent: true, Meta: offsets.Metadata{Lineage: "a", Topic: deleted, Partitions: -1}}
		p.beginRound(nil)
		p.setDecision(offsets.Decision{Offset: 3, Lineage: "a", Reason: offsets.AtCommitted}, sink.Ledger{}, deleted)
		p.setPosition(sink.Position{Next: 3, Lineage: "a", Topic: deleted}, false, false)
		for attempt := range 3 {
			p.beginRound(nil)
			l := sink.Ledger{Position: sink.Position{Next: -1}}
			c, _ := p.decisionInput(&l)
			d := offsets.Decide(c, l, recreated, policy)
			if d.Reason != offsets.TopicRecreated || d.Offset >= 0 {
				t.Errorf("attempt %d resumes at %d: %s", attempt, d.Offset, d.Reason.Message)
			}
			d.Lineage = "b"
			p.setDecision(d, sink.Ledger{}, recreated)
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
		p.setDecision(offsets.Decision{Offset: 3}, sink.Ledger{ID: "ledger"}, sink.Identity{})
		ready := p.setPosition(sink.Position{Next: 3}, c.flushFirst, c.commitFirst)
		at, ok := p.flushPoint()
		if !ok || at.earlyStart || !at.unflushed {
			t.Errorf("%s: the flush point is %+v, %v", name, at, ok)
		}
		point := commitPoint{flushPoint: at, commit: sink.Commit{Position: at.pos}}
		if c.flush && !p.recordFlush(point) {
			t.Errorf("%s: the flush point is obsolete", name)
		}
		if c.commit {
			p.recordCommit(point)
		}
		if p.phase != c.want || isClosed(ready) != (c.want == flowing) {
			t.Errorf("%s: phase %d, want %d; ready %v", name, p.phase, c.want, isClosed(ready))
		}
	}
}

func TestEarlyStartIsNeitherFlushedNorRead(t *testing.T) {
	p := newPartition(sink.TopicPartition{Topic: "t"})
	p.beginRound(nil)
	p.setDecision(offsets.Decision{Offset: -1}, sink.Ledger{ID: "ledger"}, sink.Identity{})
	ready := p.setEarlyStart(sink.Position{Next: 3})
	at, ok := p.flushPoint()
	if !ok || !at.earlyStart || at.unflushed || at.ledgerID != "" {
		t.Errorf("the flush point is %+v, %v", at, ok)
	}
	point := commitPoint{flushPoint: at, commit: sink.Commit{Position: at.pos}, meta: offsets.Metadata{EarlyStart: true}}
	if !p.recordFlush(point) || isClosed(ready) {
		t.Error("ready without a commit")
	}
	if !p.needsCommit(point) {
		t.Error("the start needs no commit")
	} else if p.recordCommit(point); p.needsCommit(point) {
		t.Error("the start is committed twice")
	}
	if !isClosed(ready) || p.phase != committingEarlyStart {
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
	p.setDecision(offsets.Decision{Offset: 3}, sink.Ledger{}, sink.Identity{})
	p.setPosition(sink.Position{Next: 3}, false, false)
	p.accept(5, leader.Unknown, time.Time{})
	at, _ := p.flushPoint()
	if !at.unflushed {
		t.Error("accepted records need no flush")
	}
	p.beginRound(func(cause error) { ended = cause })
	if p.recordFlush(commitPoint{flushPoint: at, commit: sink.Commit{Position: at.pos}}) || p.hasFlushed() {
		t.Error("a flush of an earlier round counts")
	}
	if p.endRound(at.round, sink.ErrReopen); ended != nil {
		t.Error("a failed flush of an earlier round ends the present one")
	}
}
