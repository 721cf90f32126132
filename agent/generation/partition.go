package generation

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kcagent/agent/lag"
	"kcagent/agent/offsets"
	"kcagent/agent/reject"
	"kcagent/agent/task"
	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/retry"
	"kcagent/sink"
)

// A phase says how far an assigned partition has come in a round. A round begins when the
// partition is assigned, and after each error that requires the sink to be opened again.
// From any phase, an error or the end of the generation ends the round.
//
//	opening → locating → adopting → flowing
//	   ↓ the sink cannot be opened, and the start would move meanwhile
//	committingEarlyStart
type phase uint8

const (
	// opening: the sink opens what it holds of the partition. The position is unknown, or
	// that of the former round. Nothing is flushed or committed.
	opening phase = iota
	// locating: the position is decided. The leader resolves it to an offset, or confirms
	// that the offset is in range.
	locating
	// adopting: the position is an offset. The ledger has it. The flusher flushes and
	// commits it first, as far as flushFirst and commitFirst require.
	adopting
	// flowing: records are stored.
	flowing
	// committingEarlyStart: the sink is not open. The flusher commits an early start offset,
	// to which the start policy has led, and does not flush: the sink has nothing of the
	// partition.
	committingEarlyStart
)

// A Partition is the live state of one assigned partition. Its work takes it through the
// phases, in a goroutine that ends while there is nothing to read; the flusher, the watchdog and
// the status read it.
type Partition struct {
	sink.TopicPartition
	subscription atomic.Pointer[fetch.Subscription] // of this round; nil before the first
	held         atomic.Bool                        // the sink takes no chunk; changed with Generation.subscribing held

	// Set by Setup, before the partition's work begins.
	initialPartitions int32 // how many partitions the topic had when the group first read it; -1 if unknown
	addedLater        bool  // it was added after that, see [offsets.Baseline]
	recreated         bool  // this agent saw the topic deleted and recreated

	// work takes it through its phases; see [Generation.advance]. request is work.Request,
	// stored so that Poll allocates nothing.
	work    *task.Task
	request func()

	// Used by the partition's work alone, and by Cleanup afterwards.
	current       *round        // nil between rounds
	wait          retry.Backoff // before the next round
	over          bool          // nothing is left to be done in this generation
	openAttempted bool          // the sink was asked to open it
	flowed        bool          // it has been flowing in this generation
	sinkFailed    bool          // an error of its sink is reported
	windows       bool          // the sink gets each position, see [sink.Ledger]
	rejected      reject.Log
	expansion     expansion     // of its last chunk
	encoder       sink.Encoder  // nil before the first chunk of a round
	rejects       *reject.Rules // of the round

	fetchFault string // the reported fault of its subscription, "" if none; used by the watchdog alone
	flushFault string // the reported fault of its flush, "" if none; used by the flusher alone

	trend lag.Trend // of the lag

	mu             sync.Mutex
	phase          phase
	round          int                     // grows with each change that makes flush points obsolete
	openings       int                     // grows with each round
	cancelRound    context.CancelCauseFunc // ends the round
	pos            sink.Position           // after what the sink accepted; Next is -1 until it is known
	ledgerID       string                  // "" if the sink keeps no ledger
	planned        bool                    // the sink publishes by plan
	plan           *sink.Plan              // that is to be completed in this round; nil if there is none
	flushed        sink.Position           // after what the sink flushed or, if planned, has published; Next is -1 if unknown, Lineage is not used
	flushSucceeded bool                    // a flush of this round did
	flushFirst     bool                    // the position must be flushed or, if planned, published before the first record
	commitFirst    bool                    // the position must be committed before the first record
	ready          chan struct{}           // closed when neither is left to be done; nil afterwards
	// unconfirmed: no flush has succeeded since the ledger was opened. The ledger may be
	// ahead of what is durable, because the last flush of the former generation may have
	// failed. So the next flush includes the partition, even if it has no new record.
	unconfirmed bool
	decided     offsets.Reason    // of the last decision
	committed   offsets.Committed // what the coordinator holds
	times       lag.Times         // of the records around pos
}

func newPartition(tp sink.TopicPartition) *Partition {
	return &Partition{TopicPartition: tp, pos: sink.Position{Next: -1}, flushed: sink.Position{Next: -1}}
}

// beginRound enters the first phase. cancel ends the round, and requests the partition's work.
func (p *Partition) beginRound(cancel context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.cancelRound, p.flushSucceeded = opening, cancel, false
	p.round++
	p.openings++
}

// endRound ends the round with cause, if it is still the given one.
func (p *Partition) endRound(round int, cause error) {
	p.mu.Lock()
	current, cancel := p.round == round, p.cancelRound
	p.mu.Unlock()
	if current {
		cancel(cause)
	}
}

// A lastDecision is what an earlier round decided.
type lastDecision struct {
	reason   offsets.Reason
	lineage  string
	reopened bool // the partition had a position in this generation
}

// decisionInput returns the committed offset for a decision, and completes the ledger.
// Before the first record of a generation both are used as they are, unless the ledger
// already has a lineage that began in this generation. Afterwards a commit of another
// lineage is obsolete, because no other member can commit, and a sink without a ledger
// resumes where it was last flushed. A sink that publishes by plan always resumes at what is
// committed.
func (p *Partition) decisionInput(l *sink.Ledger) (offsets.Committed, lastDecision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.committed
	if l.Planned {
		return c, lastDecision{p.decided, p.pos.Lineage, p.flowed}
	}
	// The position was reset to an earlier offset. That was flushed, and not committed.
	resetFlushed := c.ByAgent && c.Meta.Lineage != p.pos.Lineage && l.Next >= 0 && l.Lineage != "" && l.Lineage == p.pos.Lineage
	if resetFlushed || p.flowed && (!c.ByAgent || c.Meta.Lineage != p.pos.Lineage) {
		c = offsets.Committed{Offset: -1}
	}
	if p.flowed && l.Next < 0 { // the sink keeps no ledger, or the file was replaced
		l.Position = p.flushed
		l.Lineage = p.pos.Lineage
	}
	return c, lastDecision{p.decided, p.pos.Lineage, resetFlushed || p.flowed}
}

// setDecision enters the phase locating. l has the id under which the ledger continues.
func (p *Partition) setDecision(d offsets.Decision, l sink.Ledger, topic sink.Identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.decided, p.ledgerID, p.planned, p.plan = locating, d.Reason, l.ID, l.Planned, d.Plan
	p.pos = sink.Position{Next: d.Offset, Lineage: d.Lineage, Topic: topic, Epoch: d.Epoch}
}

// publishesByPlan reports that the sink publishes by plan, and has adopted the position.
func (p *Partition) publishesByPlan() (planned, adopted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.planned, p.phase >= adopting
}

// completing reports that the round completes a plan.
func (p *Partition) completing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plan != nil
}

// completedBy reports that the sink has all records of the plan of the round once it has those before
// next.
func (p *Partition) completedBy(next int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plan != nil && next >= p.plan.Next
}

// position returns the position, and the id of the ledger.
func (p *Partition) position() (pos sink.Position, ledgerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pos, p.ledgerID
}

// setPosition enters the phase adopting, and flowing if nothing has to be done first. The
// channel is closed in flowing.
func (p *Partition) setPosition(pos sink.Position, flushFirst, commitFirst bool) (ready <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	done := make(chan struct{})
	p.phase, p.pos, p.ready = adopting, pos, done
	p.flushFirst, p.commitFirst, p.unconfirmed = flushFirst, commitFirst, p.ledgerID != ""
	if !flushFirst {
		p.flushed = pos
	}
	p.becomeReady()
	return done
}

// setEarlyStart enters the phase committingEarlyStart. The channel is closed when pos is committed.
func (p *Partition) setEarlyStart(pos sink.Position) (ready <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	p.phase, p.pos, p.ready = committingEarlyStart, pos, make(chan struct{})
	p.flushFirst, p.commitFirst, p.unconfirmed = false, true, false
	p.ledgerID, p.planned, p.plan, p.flushed = "", false, nil, pos
	return p.ready
}

// becomeReady lets the partition's work continue once the flusher has nothing left to
// do before the first record. p.mu is held.
func (p *Partition) becomeReady() {
	if p.flushFirst || p.commitFirst || p.ready == nil {
		return
	}
	close(p.ready)
	p.ready = nil
	if p.phase == adopting {
		p.phase = flowing
	}
}

// willWrite stores the timestamp of the first record of a chunk that was read at the position.
func (p *Partition) willWrite(first time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times.Read(p.pos.Next, first)
}

// accept stores next as the position, because the sink has accepted all records before it, and
// the leader epoch and timestamp of the last of these records.
func (p *Partition) accept(next int64, epoch leader.Epoch, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times.Accept(p.pos.Next, next, last)
	p.pos.Next, p.pos.Epoch = next, epoch
}

// NextOffset is the offset after what the sink accepted; -1 if it is unknown.
func (p *Partition) NextOffset() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pos.Next
}

// committedIn returns the committed position under the ledger of an id. ok is false if
// there is none, or if it is about another topic than now.
func (p *Partition) committedIn(ledgerID string, now sink.Identity) (pos sink.Position, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.committed
	if c.Offset < 0 || !c.ByAgent || c.Meta.Ledger != ledgerID || offsets.Differ(c.Meta.Topic.Cluster, now.Cluster) || offsets.Differ(c.Meta.Topic.Topic, now.Topic) {
		return pos, false
	}
	return sink.Position{Next: c.Offset, Lineage: c.Meta.Lineage, Topic: now, Epoch: c.Epoch}, true
}

// CommittedOffset is -1 if the group has none.
func (p *Partition) CommittedOffset() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.committed.Offset
}

// hasFlushed reports that a flush of the round has succeeded.
func (p *Partition) hasFlushed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flushSucceeded
}

// Lag returns how far the position is behind the end, which is the last stable offset with
// read_committed, and the high-water mark otherwise.
func (p *Partition) Lag(now time.Time) lag.Lag {
	sub := p.subscription.Load()
	if sub == nil {
		return lag.Lag{}
	}
	o := sub.Outlook(now)
	p.mu.Lock()
	r := lag.Reading{Position: p.pos.Next, End: o.End, Next: p.times.Next(p.pos.Next, o.Queued)}
	p.mu.Unlock()
	l := r.Lag(now)
	l.CatchUp = p.trend.CatchUp(l.Records)
	return l
}

// SampleLag measures how fast the lag falls since the last sample, and returns the lag. One
// goroutine calls it.
func (p *Partition) SampleLag(now time.Time) lag.Lag {
	l := p.Lag(now)
	p.trend.Sample(l.Records, now)
	return l
}

// HighWaterMark is 0 if it is unknown.
func (p *Partition) HighWaterMark() int64 {
	if sub := p.subscription.Load(); sub != nil {
		return max(0, sub.HighWaterMark())
	}
	return 0
}
