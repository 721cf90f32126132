package agent

import (
	"context"
	"sync"
	"sync/atomic"

	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/sink"
)

// A phase is how far an assigned partition has come in its round. An error of its
// sink that drops records begins a new round.
type phase uint8

const (
	opening  phase = iota // the sink opens what it holds of the partition
	locating              // the position is decided; the leader resolves or confirms it
	adopting              // the ledger, and where needed the committed offset, get the position
	flowing               // records are stored
)

// A partition is the live side of one assigned partition. Its own goroutine takes it
// through the phases; the flusher and the status read it.
type partition struct {
	sink.TopicPartition
	sub atomic.Pointer[fetch.Subscription] // of this round; nil before the first

	// Set before the partition's goroutine starts.
	initial    int32 // how many partitions the topic had when the group first read it; -1 if unknown
	addedLater bool  // it was added after the group began, see partitionBaseline
	recreated  bool  // this agent saw the topic deleted and recreated

	// Of one goroutine each.
	tried      bool   // its sink was opened, or failed to be, once; its own
	settled    bool   // it was flowing once; its own
	sinkFailed bool   // an error of the sink is reported; its own
	fetchError string // the reported error; the watchdog's
	flushError string // the reported error; the flusher's

	mu           sync.Mutex
	phase        phase
	round        int                     // grows with each change that makes flush points obsolete
	end          context.CancelCauseFunc // ends the round
	at           sink.Position           // after what the sink accepted; Next is -1 until it is known
	ledger       string                  // the ledger's id; "" if the sink keeps none
	flushed      int64                   // next offset after what the sink flushed; -1 if unknown
	flushedOf    sink.Identity           // the topic that flushed is about
	flushedEpoch leader.Epoch            // of the last record before flushed
	unadopted    bool                    // the position is to be flushed before the first record
	unsure       bool                    // the ledger may be ahead of what a flush made safe: a former generation's last one failed
	owed         bool                    // it is to be committed before the first record
	pinned       bool                    // the sink is not open: only the commit is due
	adopted      chan struct{}           // closed when neither is left
	safe         bool                    // a flush of this round was good
	decided      reason                  // the last decision
	committed    commitment              // what the coordinator holds
}

// beginRound enters the first phase. end ends the round.
func (p *partition) beginRound(end context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.end, p.safe, p.pinned = opening, end, false, false
	p.round++
}

// endRound ends the round with cause, if it is still the one of the flush point.
func (p *partition) endRound(round int, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.round == round {
		p.end(cause)
	}
}

// A lastDecision is what a former round decided.
type lastDecision struct {
	reason   reason
	lineage  string
	reopened bool // the partition had a position in this generation
}

// known returns what is committed, and completes what the ledger says, for a decision.
// Before the first record of a generation both are taken as they are, unless the ledger
// already has a lineage that began in this generation. Afterwards a commit of another
// lineage is obsolete, because no other member can commit, and a sink without a ledger
// continues where it was last flushed.
func (p *partition) known(l *sink.Ledger) (commitment, lastDecision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.committed
	// A jump back was flushed, and not committed.
	jumped := c.ours && c.meta.lineage != p.at.Lineage && l.Next >= 0 && l.Lineage != "" && l.Lineage == p.at.Lineage
	if jumped || p.settled && (!c.ours || c.meta.lineage != p.at.Lineage) {
		c = commitment{offset: -1}
	}
	if p.settled && l.Next < 0 { // the sink keeps no ledger, or the file was replaced
		l.Position = sink.Position{Next: p.flushed, Lineage: p.at.Lineage, Topic: p.flushedOf, Epoch: p.flushedEpoch}
	}
	return c, lastDecision{p.decided, p.at.Lineage, jumped || p.settled}
}

// locate records a decision: the position, as far as it is known.
func (p *partition) locate(d decision, ledger string, topic sink.Identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.decided, p.ledger = locating, d.reason, ledger
	p.at = sink.Position{Next: d.offset, Lineage: d.lineage, Topic: topic, Epoch: d.epoch}
}

// position is where p is, and the id of its ledger.
func (p *partition) position() (at sink.Position, ledger string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at, p.ledger
}

// adopt records where the partition resumes, and returns a channel that is closed
// when the flusher has done what is to be done before the first record: a flush, if
// flush is set, and a commit, if commit is.
func (p *partition) adopt(at sink.Position, flush, commit bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	p.at, p.adopted = at, make(chan struct{})
	p.unadopted, p.owed = flush, commit
	if !flush {
		p.flushed, p.flushedOf, p.flushedEpoch = at.Next, at.Topic, at.Epoch
	}
	p.unsure = p.ledger != ""
	p.phase = adopting
	p.settle()
	return p.adopted
}

// pin is adopt for a partition whose sink is not open: the flusher commits the position.
func (p *partition) pin(at sink.Position) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	p.at, p.adopted, p.ledger = at, make(chan struct{}), ""
	p.unadopted, p.unsure, p.owed, p.pinned = false, false, true, true
	p.flushed, p.flushedOf, p.flushedEpoch = at.Next, at.Topic, at.Epoch
	p.phase = adopting
	return p.adopted
}

// settle lets records flow once nothing is left to be done before the first. p.mu is
// held.
func (p *partition) settle() {
	if p.phase == adopting && !p.unadopted && !p.owed {
		p.phase = flowing
		close(p.adopted)
	}
}

// accept records that the sink accepted everything before next, and the leader epoch of
// the last record.
func (p *partition) accept(next int64, epoch leader.Epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at.Next, p.at.Epoch = next, epoch
}

// next is the offset after what the sink accepted; -1 if it is not known yet.
func (p *partition) next() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at.Next
}

// committedIn returns what the group has committed of p under the ledger of an id, as far
// as it is about the topic as it is now.
func (p *partition) committedIn(ledger string, now sink.Identity) (at sink.Position, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.committed
	if c.offset < 0 || !c.ours || c.meta.ledger != ledger || differ(c.meta.topic.Cluster, now.Cluster) || differ(c.meta.topic.Topic, now.Topic) {
		return at, false
	}
	return sink.Position{Next: c.offset, Lineage: c.meta.lineage, Topic: now, Epoch: c.epoch}, true
}

// committedOffset is -1 if the group has none.
func (p *partition) committedOffset() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.committed.offset
}

// progressed reports that a flush of the round was good.
func (p *partition) progressed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.safe
}

// A flushPoint is how far a flush covers a partition.
type flushPoint struct {
	round  int
	at     sink.Position
	ledger string
	unsafe bool // the sink has something to flush
	pinned bool // the sink is not open
}

// flushPoint returns how far a flush that begins now covers p; ok is false if p has
// nothing to flush or to commit yet.
func (p *partition) flushPoint() (f flushPoint, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return flushPoint{p.round, p.at, p.ledger, p.unadopted || p.unsure || p.at.Next != p.flushed, p.pinned}, p.phase >= adopting
}

// flushedTo records a good flush. It reports whether the point is of this
// round: what was accepted in another one may have been dropped since.
func (p *partition) flushedTo(f flushPoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.round != f.round {
		return false
	}
	p.flushed, p.flushedOf, p.flushedEpoch = f.at.Next, f.at.Topic, f.at.Epoch
	p.unadopted, p.unsure, p.safe = false, false, true
	p.settle()
	return true
}

// uncommitted reports that m is to be committed with the offset of f.
func (p *partition) uncommitted(f flushPoint, m commitMetadata) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.committed
	return p.owed || c.offset != f.at.Next || c.ours && (c.meta.lineage != m.lineage || c.meta.awaits != m.awaits || c.meta.pinned != m.pinned)
}

// committedTo records a good commit.
func (p *partition) committedTo(f flushPoint, m commitMetadata) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = commitment{offset: f.at.Next, epoch: f.at.Epoch, ours: true, meta: m}
	if p.round == f.round {
		p.owed = false
		p.settle()
	}
}

// movedBack compares the last commit with what the coordinator holds now. It reports
// whether that is behind the last commit.
func (p *partition) movedBack(now commitment) (was int64, back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was = p.committed.offset; now.offset < was && now.ours && now.meta.lineage == p.committed.meta.lineage {
		p.committed = now
		return was, true
	}
	return was, false
}

// lag is how many records lie between what was accepted and the end, which under
// read_committed is the last stable offset.
func (p *partition) lag() int64 {
	sub := p.sub.Load()
	if sub == nil {
		return 0
	}
	next, end := p.next(), sub.End()
	if next < 0 || end < 0 {
		return 0
	}
	return max(0, end-next)
}

// highWaterMark is 0 if it is not known yet.
func (p *partition) highWaterMark() int64 {
	if sub := p.sub.Load(); sub != nil {
		return max(0, sub.HighWaterMark())
	}
	return 0
}
