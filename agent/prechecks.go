package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/agent/plan"
	"kcagent/agent/precheck"
	"kcagent/config"
	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// A preChecker checks whether consumers could run with specs, without joining a group or
// writing to a file. It calls report once for each, from any goroutine: err is nil if
// nothing was found wrong. The sinks in own belong to running consumers of this agent, so
// a lock on their files is no error.
type preChecker func(ctx context.Context, specs []config.Consumer, own []sink.Spec, report func(i int, err error))

// preCheckWith returns the real preChecker.
func preCheckWith(clusters *kafka.Clusters) preChecker {
	return func(ctx context.Context, specs []config.Consumer, own []sink.Spec, report func(i int, err error)) {
		check := func(ctx context.Context, s sink.Spec) error { return kinds.CheckFree(ctx, s, own) }
		precheck.ProbeEach(ctx, specs, precheck.Options{CheckSink: check, PinnedCluster: clusters.Pinned}, func(i int, found []precheck.Finding) {
			errs := make([]error, len(found))
			for n, f := range found {
				errs[n] = f.Err
			}
			report(i, errors.Join(errs...))
		})
	}
}

// A preCheckResult is what a pre-check of a pending change has found.
type preCheckResult struct {
	entry   *entry
	pending *pendingChange
	err     error // nil if the change can be applied
}

// startPreChecks starts the pre-checks that are due, and sets the timer for the next ones.
// Together they need fewer connections than one by one.
func (a *Agent) startPreChecks(ctx context.Context) {
	now := time.Now()
	var due []preCheckResult
	var specs []config.Consumer
	var next time.Time
	for _, e := range a.entries {
		p := e.pending
		switch {
		case p == nil || p.phase != inBackoff:
		case p.due(now):
			p.start()
			due = append(due, preCheckResult{entry: e, pending: p})
			specs = append(specs, p.change.Spec)
		case next.IsZero() || p.next.Before(next):
			next = p.next
		}
	}
	if !next.IsZero() {
		a.retry.Reset(time.Until(next))
	}
	if len(due) == 0 {
		return
	}
	var own []sink.Spec
	for _, e := range a.entries {
		if e.cancel != nil {
			own = append(own, e.spec.Sinks()...)
		}
	}
	a.preChecks.Go(func() {
		a.preCheck(ctx, specs, own, func(i int, err error) {
			r := due[i]
			r.err = err
			select {
			case a.preChecked <- r:
			case <-a.done:
			}
		})
	})
}

// handlePreCheck takes over the result of a pre-check. It ignores the result for a change
// that a newer edit has replaced.
func (a *Agent) handlePreCheck(r preCheckResult) {
	e, p := r.entry, r.pending
	if e.pending != p {
		return
	}
	log := a.log.With(logkey.Consumer, e.name, logkey.Action, string(p.change.Op), logkey.Fields, strings.Join(p.change.Fields, ","))
	if r.err == nil {
		p.pass()
		log.Info("pre-check passed", logkey.Tries, p.checks)
		return
	}
	e.runner.AwaitTopics(kafka.MissingTopics(r.err))
	wait := p.fail(r.err, time.Now())
	first := p.causes.First(outage.CauseKey(r.err.Error()), time.Now())
	a.remind(e, first)
	if first {
		log.Warn("pre-check failed; keeping the current configuration", logkey.Error, r.err, logkey.NextTryIn, wait.Round(time.Millisecond).String())
	}
}

// applyReady applies the changes that passed their pre-check. A change that needs the file
// of another consumer waits until that has released it; consumers that need each other's
// files are changed together.
func (a *Agent) applyReady() {
	passed := make(map[*entry]bool)
	for _, e := range a.entries {
		if e.pending != nil && e.pending.passed() {
			passed[e] = true
		}
	}
	if len(passed) == 0 {
		return
	}
	held := a.holders()
	for again := true; again; { // one that is blocked blocks others in turn
		again = false
		for e := range passed {
			blocks := func(o *entry) bool { return o != e && !passed[o] }
			if o := held.of(&e.pending.change.Spec, blocks); o != nil {
				a.block(e, o)
				delete(passed, e)
				again = true
			}
		}
	}
	for e := range passed {
		p := a.takePending(e)
		if p.change.Op == plan.Reconnect {
			e.reconnected = p.fingerprints
		}
		a.applyNow(e, p.change)
	}
}

// block makes a change whose pre-check has passed wait until o releases its file.
func (a *Agent) block(e *entry, o *holder) {
	p := e.pending
	p.block(o)
	first := p.causes.First(p.err.Error(), time.Now())
	a.remind(e, first)
	if first {
		a.log.Info("change waits for the file of another consumer", logkey.Consumer, e.name, logkey.Action, string(p.change.Op), logkey.Reason, p.err.Error())
	}
}
