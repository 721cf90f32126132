package generation

import (
	"cmp"
	"maps"

	"kcagent/agent/offsets"
	"kcagent/sink"
)

// A flushPoint is the position up to which a flush covers a partition.
type flushPoint struct {
	round      int
	opening    int // number of the Resume that the sink had before
	pos        sink.Position
	ledgerID   string
	unflushed  bool       // the sink has something to flush
	earlyStart bool       // the sink is not open, and pos is a start offset: see committingEarlyStart
	planned    bool       // the sink publishes by plan
	flushFirst bool       // the position must be flushed or published before the first record
	plan       *sink.Plan // that is completed in the round; nil if there is none
}

// flushPoint returns how far a flush that begins now covers p; ok is false if p has
// nothing to flush or to commit yet.
func (p *Partition) flushPoint() (f flushPoint, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return flushPoint{
		round: p.round, opening: p.openings, pos: p.pos, ledgerID: p.ledgerID,
		unflushed:  p.flushFirst || p.unconfirmed || p.pos.Next != p.flushed.Next,
		earlyStart: p.phase == committingEarlyStart,
		planned:    p.planned, flushFirst: p.flushFirst, plan: p.plan,
	}, p.phase >= adopting
}

// A commitPoint is what is to be committed of a partition after a flush.
type commitPoint struct {
	flushPoint
	commit sink.Commit
	meta   offsets.Metadata
}

// settled reports that nothing of what the sink has accepted is left to be published.
func (at commitPoint) settled() bool { return at.commit.Plan == nil && at.commit.Next == at.pos.Next }

// pending reports that the sink still has to publish something of the partition. A plan whose records
// are not read to the end does not count: the sink waits for records.
func (at commitPoint) pending() bool {
	return at.planned && !at.settled() && (at.plan == nil || at.pos.Next >= at.plan.Next)
}

// recordFlush records that a flush has succeeded. It reports whether at is of this round:
// what was accepted in another one may have been dropped since.
func (p *Partition) recordFlush(at commitPoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.round != at.round {
		return false
	}
	p.flushed, p.unconfirmed, p.flushSucceeded = at.commit.Position, false, true
	if at.settled() {
		p.flushFirst = false
	}
	p.becomeReady()
	return true
}

// prepareCommit completes the metadata of a commit with the nonce and the plan. settings are those
// with which the agent reads the records of a new plan. A plan that is committed already stays as
// it is. The nonce differs from that of the last commit, because a commit that arrives late must
// not look like another one.
func (p *Partition) prepareCommit(at *commitPoint, settings map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, was := at.commit, p.committed.Meta
	if c.Plan == nil {
		if at.meta.Nonce = c.Nonce; c.Nonce == "" || c.Nonce == was.Nonce {
			at.meta.Nonce = offsets.NewID()
		}
		return
	}
	at.meta.Nonce = cmp.Or(c.Plan.Nonce, c.Nonce)
	if was.Plan != nil && was.Nonce == at.meta.Nonce {
		at.meta.Plan = was.Plan
		return
	}
	plan := *c.Plan
	plan.Nonce, plan.Settings = at.meta.Nonce, maps.Clone(settings)
	maps.Copy(plan.Settings, c.Plan.Settings)
	at.meta.Plan = &plan
}

// needsCommit reports that at is to be committed.
func (p *Partition) needsCommit(at commitPoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, m := p.committed, at.meta
	if m.Plan != nil && c.Meta.Plan == m.Plan {
		return false // the commit that ends the plan has other changes, too
	}
	return p.commitFirst && (!at.planned || at.settled()) || c.Offset != at.commit.Next || c.Meta.Plan != m.Plan ||
		c.ByAgent && (c.Meta.Lineage != m.Lineage || c.Meta.Awaits != m.Awaits || c.Meta.EarlyStart != m.EarlyStart)
}

// holds reports whether the sink still holds what it had for a flush point: it was not opened again.
func (p *Partition) holds(at flushPoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openings == at.opening
}

// recordCommit records that a commit has succeeded.
func (p *Partition) recordCommit(at commitPoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = offsets.Committed{Offset: at.commit.Next, Epoch: at.commit.Epoch, ByAgent: true, Meta: at.meta}
	if p.round == at.round && (!at.planned || at.settled()) {
		p.commitFirst = false
		p.becomeReady()
	}
}

// publishedPlan reports that the plan of the round is completed, and that the group has committed its
// end.
func (p *Partition) publishedPlan() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plan != nil && p.committed.Meta.Plan == nil && p.committed.Offset == p.plan.Next
}

// decideAgain ends the present round, so that the next one resumes at what is committed.
func (p *Partition) decideAgain() {
	p.mu.Lock()
	cancel := p.cancelRound
	p.mu.Unlock()
	if cancel != nil {
		cancel(errDecideAgain)
	}
}

// checkCommitted compares the last commit with what the coordinator holds now. It reports
// whether that is behind the last commit, so that it must be committed again.
func (p *Partition) checkCommitted(now offsets.Committed) (was int64, behind bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was = p.committed.Offset; now.Offset < was && now.ByAgent && now.Meta.Lineage == p.committed.Meta.Lineage {
		p.committed = now
		return was, true
	}
	return was, false
}
