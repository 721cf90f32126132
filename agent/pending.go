package agent

import (
	"time"

	"kcagent/agent/kafka/login"
	"kcagent/agent/outage"
	"kcagent/agent/plan"
	"kcagent/agent/web"
	"kcagent/condition"
	"kcagent/config/filewatch"
	"kcagent/logkey"
	"kcagent/retry"
)

// A pendingChange is a change of a running consumer that waits for its pre-check: the
// consumer keeps its current configuration until the pre-check has found that it can run
// with the new one. Only Run's goroutine uses it. Its phase changes in this file alone.
//
//	newPendingChange → backoff → preChecking → ready → applied by applyReady
//	                      ↑          │          ↕
//	                      └──failed──┘       blocked
//
// A newer edit replaces it by another one, or removes it.
type pendingChange struct {
	change       plan.Change
	fingerprints filewatch.Fingerprints // of the files with credentials, if the change is a reconnect
	since        time.Time

	phase  changePhase
	checks int       // pre-checks so far, including one that is running
	next   time.Time // in phase backoff: when the next pre-check is due; zero for at once
	err    error     // why it is not applied yet; nil before that is known

	causes outage.CauseLog
	wait   retry.Backoff
}

// A changePhase is what a pending change waits for.
type changePhase uint8

const (
	inBackoff   changePhase = iota // the time of its next pre-check
	preChecking                    // the result of its pre-check
	ready                          // nothing: the pre-check passed
	blocked                        // another consumer to release the file that it needs; the pre-check passed
)

// newPendingChange returns a change whose pre-check is due at once.
func newPendingChange(c plan.Change, now time.Time) *pendingChange {
	return &pendingChange{change: c, since: now}
}

// due reports whether a pre-check is to be started.
func (p *pendingChange) due(now time.Time) bool { return p.phase == inBackoff && !p.next.After(now) }

// start begins a pre-check that is due.
func (p *pendingChange) start() {
	p.phase = preChecking
	p.checks++
}

// pass ends a pre-check that found nothing wrong.
func (p *pendingChange) pass() { p.phase, p.err = ready, nil }

// fail ends a pre-check that found err, and returns the time until the next one.
func (p *pendingChange) fail(err error, now time.Time) (wait time.Duration) {
	p.phase, p.err = inBackoff, err
	if login.Rejected(err) {
		p.wait.Slow()
	}
	wait = p.wait.Next()
	p.next = now.Add(wait)
	if wait > 2*time.Second { // the pre-checks of one second share their connections
		p.next = p.next.Truncate(time.Second)
	}
	return wait
}

// passed reports whether the pre-check has passed.
func (p *pendingChange) passed() bool { return p.phase == ready || p.phase == blocked }

// block makes a change whose pre-check has passed wait for holder.
func (p *pendingChange) block(h *holder) {
	p.phase = blocked
	p.err = h.blocks()
}

// status is what /status shows; nil if p is nil.
func (p *pendingChange) status() *web.PendingChange {
	if p == nil {
		return nil
	}
	s := &web.PendingChange{Action: p.change.Op, Fields: p.change.Fields, Since: p.since, Tries: p.checks}
	if p.err != nil {
		text := p.err.Error()
		s.Error = &text
	}
	if next := p.next; p.phase == inBackoff && !next.IsZero() {
		s.NextTryAt = &next
	}
	return s
}

// hasPendingSpec reports whether a change of the consumer's spec is pending. A reconnect
// does not change the spec.
func (e *entry) hasPendingSpec() bool {
	return e.pending != nil && e.pending.change.Op != plan.Reconnect
}

// Why a pending change is discarded.
const (
	newerEdit     = "a newer edit"
	filesChanged  = "the files have changed again"
	consumerStops = "the consumer stops"
)

// queue makes c the pending change, in place of another one. A change of state does not
// wait for the pre-check.
func (a *Agent) queue(e *entry, c plan.Change) {
	why := newerEdit
	if c.Op == plan.Reconnect {
		why = filesChanged
	}
	a.discard(e, why)
	e.pending = newPendingChange(c, time.Now())
	if c.Op != plan.Reconnect {
		e.updateState(c.Spec.State)
	}
}

// remind starts the reminders of a change that is not applied because of its error. first says
// that the error has just been logged.
func (a *Agent) remind(e *entry, first bool) {
	p := e.pending
	a.outages.Begin(condition.ChangePending, e.id, condition.Report{
		Consumer: e.name, Cause: string(p.change.Op) + ": " + p.err.Error(), Key: string(p.change.Op) + outage.SharedKey(&p.change.Spec, p.err),
		Since: p.since, Logged: first,
	})
}

// discard removes the pending change of e, if there is one. It logs the removal if it was logged
// that the change waits.
func (a *Agent) discard(e *entry, reason string) {
	if e.pending == nil {
		return
	}
	p := e.pending
	e.pending = nil
	if lasted, ok := a.outages.End(condition.ChangePending, e.id); ok {
		a.log.Info("pending change discarded", logkey.Consumer, e.name, logkey.Action, string(p.change.Op), logkey.Reason, reason, logkey.Lasted, lasted)
	}
}

// takePending removes the pending change of e, because it is applied now.
func (a *Agent) takePending(e *entry) *pendingChange {
	p := e.pending
	e.pending = nil
	if lasted, ok := a.outages.End(condition.ChangePending, e.id); ok {
		a.log.Info("pending change applied", logkey.Consumer, e.name, logkey.Action, string(p.change.Op), logkey.Lasted, lasted)
	}
	return p
}
