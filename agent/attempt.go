package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kcagent/config"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// An attempt is a change that is tried before it is made: what is wanted is
// probed while the consumer goes on in its present form. Run's goroutine alone
// uses it.
type attempt struct {
	change Change
	prints config.Prints // of reconnect: what the files held
	since  time.Time
	tries  int
	at     time.Time // when to try next
	trying bool
	passed bool
	err    error // why it was not made after the last try
	causes causeLog
	wait   backoff
}

// A verdict is what a try has found.
type verdict struct {
	entry   *entry
	attempt *attempt
	err     error // nil: it can be made
}

// prober tries what consumers need and reports for each once, from any
// goroutine. Files of mine are the agent's own. Another one in tests.
type prober func(ctx context.Context, wanted []config.Consumer, mine []sink.Spec, report func(i int, err error))

func (cs *clusters) probe(ctx context.Context, wanted []config.Consumer, mine []sink.Spec, report func(i int, err error)) {
	check := func(s sink.Spec) error { return kinds.CheckFree(s, mine) }
	probeEach(ctx, wanted, probing{check, cs.pinned}, func(i int, found []Finding) {
		errs := make([]error, len(found))
		for n, f := range found {
			errs[n] = f.Err
		}
		report(i, errors.Join(errs...))
	})
}

// attempt has a change tried, in place of another one that was. What the state
// asks for does not wait.
func (e *entry) attempt(c Change) {
	e.next = &attempt{change: c, since: time.Now()}
	if c.Op != Reconnect {
		e.adopt(c.Spec.State)
	}
}

// adopt asks the present form for another state, and only for that.
func (e *entry) adopt(s config.State) {
	if e.spec.State != s {
		e.spec.State = s
		e.runner.Update(e.spec)
	}
}

// try starts a probe of what is due, and sets the timer for what is not yet.
func (a *Agent) try(ctx context.Context) {
	now := time.Now()
	var due []verdict
	var wanted []config.Consumer
	var later time.Time
	for _, e := range a.entries {
		n := e.next
		switch {
		case n == nil || n.trying || n.passed:
		case n.at.After(now):
			if later.IsZero() || n.at.Before(later) {
				later = n.at
			}
		default:
			n.trying = true
			n.tries++
			due = append(due, verdict{entry: e, attempt: n})
			wanted = append(wanted, n.change.Spec)
		}
	}
	if !later.IsZero() {
		a.retry.Reset(time.Until(later))
	}
	if len(due) == 0 {
		return
	}
	var mine []sink.Spec
	for _, e := range a.entries {
		if e.cancel != nil {
			mine = append(mine, e.spec.Sink)
		}
	}
	a.probes.Go(func() {
		a.probe(ctx, wanted, mine, func(i int, err error) {
			v := due[i]
			v.err = err
			select {
			case a.probed <- v:
			case <-a.over:
			}
		})
	})
}

// judge takes in what a try has found. One that a newer edit has superseded
// says nothing.
func (a *Agent) judge(v verdict) {
	n := v.attempt
	if v.entry.next != n {
		return
	}
	n.trying = false
	log := a.log.With("consumer", v.entry.name, "action", string(n.change.Op), "fields", strings.Join(n.change.Fields, ","))
	if v.err == nil {
		n.passed = true
		n.err = nil
		log.Info("change was tried and can be made", "tries", n.tries)
		return
	}
	v.entry.runner.AwaitTopics(missingTopics(v.err))
	if loginRejected(v.err) {
		n.wait.slow()
	}
	wait := n.wait.next()
	n.at = time.Now().Add(wait)
	if wait > 2*time.Second { // those of a second share a probe, and so a connection
		n.at = n.at.Truncate(time.Second)
	}
	if n.causes.news(causeKey(v.err.Error()), a.clusters.outages.every, time.Now()) {
		log.Warn("change cannot be made; the consumer goes on as it is", "error", v.err, "next_try_in", wait.Round(time.Millisecond).String())
	}
	n.err = v.err
}

// proceed makes what was tried and can be made. One that wants a file which
// another consumer has waits until that is let go; consumers that want each
// other's files go together.
func (a *Agent) proceed() {
	ready := make(map[*entry]bool)
	for _, e := range a.entries {
		if e.next != nil && e.next.passed {
			ready[e] = true
		}
	}
	if len(ready) == 0 {
		return
	}
	held := a.holders()
	for again := true; again; {
		again = false
		for e := range ready {
			blocks := func(o *entry) bool { return o != e && !ready[o] }
			if o := held.of(e.next.change.Spec.Sink, blocks); o != nil {
				e.next.err = errors.New("waits until " + o.String() + " releases " + e.next.change.Spec.Sink.String())
				delete(ready, e)
				again = true
			}
		}
	}
	for e := range ready {
		c := e.next.change
		if c.Op == Reconnect {
			e.renewed = e.next.prints
		}
		e.next = nil
		a.make(e, c)
	}
}

// make makes a change that needs no try any more.
func (a *Agent) make(e *entry, c Change) {
	switch c.Op {
	case Replace:
		a.end(e, StopReason{To: Terminated, Why: "replaced: " + strings.Join(c.Fields, ", ") + " changed"})
	case Resubscribe:
		e.spec = c.Spec
		e.runner.Update(c.Spec)
	case Reconnect:
		e.runner.Reconnect()
	}
}

// holders are the consumers that run and will let go of their file, by its path.
type holders struct {
	byPath map[string][]*entry
	open   []*entry // with placeholders
}

// holders finds them. No others need be asked: the configuration refuses two
// writers on one file, so what has the file of another is on its way to another
// form, to its end, or a zombie.
func (a *Agent) holders() *holders {
	h := &holders{byPath: make(map[string][]*entry)}
	for _, e := range a.entries {
		if e.cancel != nil && (e.ending || e.timer != nil || e.next != nil) {
			h.add(e)
		}
	}
	for _, z := range a.zombies {
		h.add(z)
	}
	return h
}

func (h *holders) add(e *entry) {
	file := e.spec.Sink.File
	switch {
	case file == nil:
	case strings.Contains(file.Path, "{"):
		h.open = append(h.open, e)
	default:
		path := filepath.Clean(file.Path)
		h.byPath[path] = append(h.byPath[path], e)
	}
}

// of names one whose file s would write and for which blocks holds, or nil.
func (h *holders) of(s sink.Spec, blocks func(*entry) bool) *entry {
	if s.File == nil {
		return nil
	}
	among := func(es []*entry) *entry {
		i := slices.IndexFunc(es, func(e *entry) bool { return blocks(e) && kinds.Conflict(e.spec.Sink, s) })
		if i < 0 {
			return nil
		}
		return es[i]
	}
	if !strings.Contains(s.File.Path, "{") {
		if e := among(h.byPath[filepath.Clean(s.File.Path)]); e != nil {
			return e
		}
		return among(h.open)
	}
	for _, es := range h.byPath {
		if e := among(es); e != nil {
			return e
		}
	}
	return among(h.open)
}

// String is "consumer orders" or "zombie orders".
func (e *entry) String() string {
	if !e.since.IsZero() {
		return "zombie " + e.name
	}
	return "consumer " + e.name
}

// pending is what is shown of it; nil if there is none.
func (n *attempt) pending() *PendingChange {
	if n == nil {
		return nil
	}
	p := &PendingChange{Action: n.change.Op, Fields: n.change.Fields, Since: n.since, Tries: n.tries}
	if n.err != nil {
		text := n.err.Error()
		p.Error = &text
	}
	if !n.trying && !n.passed && !n.at.IsZero() {
		at := n.at
		p.NextTryAt = &at
	}
	return p
}
