package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/limits"
	"kcagent/logkey"
)

// accept takes over a new configuration. If the file has problems, the last valid
// configuration stays in force.
func (a *Agent) accept(u config.Update) {
	r := &a.reloads
	r.Path, r.FileSHA256, r.FileText = u.Path, u.SHA256, u.Text
	if u.Config != nil && a.config != nil {
		if p := plan.Guard(a.config.Consumers, u.Config); p != nil {
			p.File = u.Path
			u.Problems = config.Problems{*p}
		}
	}
	if len(u.Problems) > 0 {
		r.Rejected++
		r.Problems = u.Problems
		a.reportRejected(u.Problems)
		return
	}
	if lasted, ok := a.outages.End(condition.ConfigRejected, ""); ok {
		a.log.Info("configuration is valid again", logkey.Lasted, lasted)
	}
	a.logWarnings(u.Config.Warnings)
	a.forgetPins()
	r.Applied++
	r.SHA256, r.Text, r.AppliedAt, r.Problems = u.SHA256, u.Text, u.At, nil
	a.config = u.Config
	limits.Records.SetMaxBatch(int64(u.Config.Limits.MaxBatch)) // fetches in progress keep what they have
	a.files.Watch(secretFiles(u.Config))
	a.opts.SetLogLevel(u.Config.LogLevel)
	a.log.Info("configuration accepted", logkey.Path, u.Path, logkey.SHA256, u.SHA256, logkey.Consumers, len(u.Config.Consumers))
}

// reportRejected logs the problems of a file, and starts the reminders of them. Without these,
// only the log of the edit would show that the agent runs with an earlier file.
func (a *Agent) reportRejected(problems config.Problems) {
	if a.config == nil {
		return // the agent ends, and Run returns the problems
	}
	for _, p := range problems {
		a.log.Error("configuration rejected", logkey.Problem, p.String())
	}
	cause := problems[0].String()
	if more := len(problems) - 1; more > 0 {
		cause += fmt.Sprintf(" (problems: %d more)", more)
	}
	a.outages.Begin(condition.ConfigRejected, "", condition.Report{Cause: cause, Key: cause, Logged: true})
}

// logWarnings logs those warnings of a new configuration that the current one does not have.
func (a *Agent) logWarnings(warnings config.Problems) {
	for _, w := range warnings {
		known := a.config != nil && slices.ContainsFunc(a.config.Warnings, func(old config.Problem) bool {
			return old.Path == w.Path && old.Message == w.Message
		})
		if !known {
			a.log.Warn("configuration contains a probable mistake", logkey.Problem, w.String())
		}
	}
}

// forgetPins releases the brokers that no consumer used before the edit: the edit may
// move consumers back to them, and they may lead to another cluster now.
func (a *Agent) forgetPins() {
	inUse := make([][]string, 0, len(a.entries))
	for _, e := range a.entries {
		inUse = append(inUse, e.spec.Cluster.Brokers)
	}
	a.clusters.ForgetPins(inUse)
}

// reconcile applies the differences between the configuration and the table. A change that
// has to wait, because a consumer or a pre-check has not ended yet, is made in a later round.
func (a *Agent) reconcile(ctx context.Context) {
	began := time.Now()
	applied := 0
	for range 3 { // a consumer that was replaced while it did not run is created in the second round
		changes := plan.Plan(a.config.Consumers, a.have())
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			a.announce(c)
			a.apply(c)
		}
		applied += len(changes)
	}
	a.checkCredentials()
	a.applyReady()
	a.startPreChecks(ctx)
	a.startAll(ctx)
	if applied > 0 {
		a.reconcileSeconds.Observe(time.Since(began).Seconds())
	}
}

func (a *Agent) announce(c plan.Change) {
	a.log.Info("change planned", logkey.Action, string(c.Op), logkey.Consumer, c.Name, logkey.Fields, strings.Join(c.Fields, ","), logkey.Cost, c.Cost())
	if c.Warning != "" {
		a.log.Warn("change may repeat records", logkey.Action, string(c.Op), logkey.Consumer, c.Name, logkey.Reason, c.Warning)
	}
}

// have describes the table for Plan.
func (a *Agent) have() map[string]plan.Current {
	have := make(map[string]plan.Current, len(a.entries))
	for name, e := range a.entries {
		h := plan.Current{Spec: *e.spec, Ending: e.ending}
		if e.hasPendingSpec() {
			h.Pending = &e.pending.change.Spec
		}
		have[name] = h
	}
	return have
}

// apply starts one change and does not wait for it.
func (a *Agent) apply(c plan.Change) {
	e := a.entries[c.Name]
	switch c.Op {
	case plan.Create:
		a.entries[c.Name] = a.newEntry(c.Spec)
	case plan.Terminate:
		a.terminate(e, "removed from the configuration")
	case plan.Replace, plan.Resubscribe:
		if e.cancel != nil && e.timer == nil && c.Spec.State != config.Stopped {
			a.queue(e, c)
			return
		}
		a.discard(e, newerEdit) // the consumer does not run, or is to stop: no pre-check could protect it
		a.applyNow(e, c)
	case plan.Stop:
		a.discard(e, newerEdit)
		a.outages.End(condition.StartWaits, e.id)
		e.update(c.Spec)
		if e.cancel != nil {
			a.stop(e, consumer.StopReason{To: consumer.Created, Why: "state: stopped"})
		} else { // it may wait for a file
			e.runner.Wait("")
		}
	case plan.Keep:
		a.discard(e, newerEdit)
		e.update(c.Spec)
	case plan.Start, plan.Pause, plan.Resume, plan.Update:
		if e.hasPendingSpec() { // the rest of the change is pending, too
			e.pending.change = plan.Compare(*e.spec, c.Spec)
			e.updateState(c.Spec.State)
			return
		}
		e.update(c.Spec)
	}
}

// applyNow applies a change that needs no pre-check, or has passed it.
func (a *Agent) applyNow(e *entry, c plan.Change) {
	switch c.Op {
	case plan.Replace:
		a.terminate(e, "replaced: "+strings.Join(c.Fields, ", ")+" changed")
	case plan.Resubscribe:
		e.update(c.Spec)
	case plan.Reconnect:
		e.runner.Reconnect()
	}
}
