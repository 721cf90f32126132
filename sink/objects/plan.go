package objects

import (
	"crypto/rand"
	"maps"

	"kcagent/sink"
)

// nonceLength is the length of a nonce: 65 bits, so that two commits never have the same.
const nonceLength = 13

func newNonce() string { return rand.Text()[:nonceLength] }

// Plan implements [sink.Sink]. While nothing is begun, because Resume was called last, Next is -1: no
// commit may be made then, because the group may have a plan that it would erase.
func (s *objectsSink) Plan(tp sink.TopicPartition, _ sink.Position) sink.Commit {
	p := s.partition(tp)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		return sink.Commit{Position: sink.Position{Next: -1}}
	}
	if p.offer != nil {
		return *p.offer
	}
	c := sink.Commit{Position: p.base}
	done := 0
	for done < len(p.ranges) && p.ranges[done].complete() {
		c.Next, c.Epoch = p.ranges[done].end(), p.ranges[done].endEpoch()
		done++
	}
	if done < len(p.ranges) {
		c.Plan = p.ranges[done].planFor(p, s.atLeastOnce())
	}
	switch {
	case c.Plan != nil:
		c.Nonce = c.Plan.Nonce
		if done > 0 || !p.ranges[done].planned {
			p.offer = &c
		}
		return c
	case p.nonce == "":
		p.nonce = newNonce()
	}
	c.Nonce = p.nonce
	if done > 0 {
		p.offer = &c
	}
	return c
}

// planFor returns the plan of a range; nil if it has none yet. The caller holds the mutex of p.
func (r *offsetRange) planFor(p *partition, atLeastOnce bool) *sink.Plan {
	if r.plan == nil && r.closed && r.probed && !atLeastOnce {
		r.plan = &sink.Plan{Nonce: newNonce(), First: r.first, Next: r.next, Epoch: r.epoch, Records: r.records, Settings: maps.Clone(r.named)}
	}
	return r.plan
}

// Publish implements [sink.Sink].
func (s *objectsSink) Publish(tp sink.TopicPartition, c sink.Commit) {
	p := s.partition(tp)
	ready, due := p.publish(c)
	if ready && s.options.Ready != nil {
		s.options.Ready(tp)
	}
	if due {
		s.due()
	}
}

// publish applies a commit. It reports whether the partition takes chunks again, and whether Plan has
// another commit.
func (p *partition) publish(c sink.Commit) (ready, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.offer != nil && p.offer.Nonce == c.Nonce:
		p.offer, p.nonce = nil, ""
	case p.nonce != "" && p.nonce == c.Nonce:
		p.nonce = ""
		return false, false
	default: // it was called before, or the ranges were dropped
		return false, false
	}
	for len(p.ranges) > 0 && p.ranges[0].complete() && p.ranges[0].end() <= c.Next {
		p.ranges[0].drop()
		p.newest = p.ranges[0].newest
		p.ranges = p.ranges[1:]
	}
	p.base.Next, p.base.Epoch = c.Next, c.Epoch
	if len(p.ranges) > 0 {
		r := p.ranges[0]
		if c.Plan != nil && r.plan != nil && r.plan.Nonce == c.Plan.Nonce {
			r.planned = true
			p.startUpload(r)
		}
		due = r.closed && !r.planned // its plan, or the position after it
	}
	if p.blocked && p.closed() < maxClosed {
		p.blocked, ready = false, true
	}
	return ready, due
}
