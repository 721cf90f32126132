package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/logkey"
)

// An entry is a consumer of the table. Only Run's goroutine uses it.
type entry struct {
	id      string
	name    string
	spec    *config.Consumer // that the consumer was last asked to apply; shared, and never changed
	runner  runner
	pending *pendingChange // nil if there is none

	cancel      context.CancelCauseFunc // of Run; nil while no goroutine runs
	ending      bool                    // asked to terminate or to make room for its replacement
	timer       *time.Timer             // of StopTimeout; nil unless it is stopping
	zombieSince time.Time               // zero unless it is a zombie

	reconnected filewatch.Fingerprints // of the credentials that it was last asked to use; nil before
}

func (a *Agent) newEntry(spec config.Consumer) *entry {
	r := a.newRunner(&spec)
	return &entry{id: r.Snapshot().ID, name: spec.Name, spec: &spec, runner: r}
}

// String is "consumer orders" or "zombie orders".
func (e *entry) String() string {
	if !e.zombieSince.IsZero() {
		return "zombie " + e.name
	}
	return "consumer " + e.name
}

// update asks the consumer to apply spec.
func (e *entry) update(spec config.Consumer) {
	e.spec = &spec
	e.runner.Update(&spec)
}

// updateState asks the consumer for another state, and keeps the rest of its spec.
func (e *entry) updateState(s config.State) {
	if e.spec.State != s {
		spec := *e.spec
		spec.State = s
		e.update(spec)
	}
}

// startAll starts every consumer that should run and does not, unless another one still
// holds the file that it would write.
func (a *Agent) startAll(ctx context.Context) {
	held := a.holders()
	for _, c := range a.config.Consumers {
		e := a.entries[c.Name]
		if e == nil || e.cancel != nil || e.ending || e.spec.State == config.Stopped || ctx.Err() != nil {
			continue
		}
		if o := held.of(e.spec, func(o *entry) bool { return o != e }); o != nil {
			reason := o.blocks().Error()
			e.runner.Wait(reason)
			a.outages.Begin(condition.StartWaits, e.id, condition.Report{Consumer: e.name, Cause: reason, Key: reason})
			continue
		}
		a.start(ctx, e)
	}
}

func (a *Agent) start(ctx context.Context, e *entry) {
	runCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	e.cancel = cancel
	if lasted, ok := a.outages.End(condition.StartWaits, e.id); ok {
		a.log.Info("file was released; starting the consumer", logkey.Consumer, e.name, logkey.Sink, e.spec.Sink.String(), logkey.Lasted, lasted)
	}
	go func() {
		e.runner.Run(runCtx)
		select {
		case a.ended <- e:
		case <-a.done: // a zombie that ended after the agent
		}
	}()
}

// terminate stops a consumer for good.
func (a *Agent) terminate(e *entry, why string) {
	e.ending = true
	a.discard(e, consumerStops)
	if e.cancel == nil { // it does not run, and may wait for a file
		e.runner.Wait("")
		a.retire(e, nil)
		return
	}
	a.stop(e, consumer.StopReason{To: consumer.Terminated, Why: why})
}

// stop cancels a consumer's run and sets its deadline. It changes nothing for a consumer
// that is stopping already.
func (a *Agent) stop(e *entry, reason consumer.StopReason) {
	e.cancel(reason)
	if e.timer == nil {
		e.timer = time.AfterFunc(a.opts.StopTimeout, func() {
			select {
			case a.overdue <- e:
			case <-a.done:
			}
		})
	}
}

// handleEnd records that a consumer's goroutine has ended.
func (a *Agent) handleEnd(e *entry) {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	e.cancel = nil
	if !e.zombieSince.IsZero() {
		a.zombies = slices.DeleteFunc(a.zombies, func(z *entry) bool { return z == e })
		a.outages.End(condition.Zombie, e.id)
		a.log.Info("zombie ended", logkey.Consumer, e.name, logkey.Lasted, condition.Duration(time.Since(e.zombieSince)))
		return
	}
	if e.ending {
		a.retire(e, e.runner.Snapshot().EndError)
	}
}

// maxTerminated is how many terminated consumers are remembered.
const maxTerminated = 50

// retire moves a consumer from the table to the list of terminated ones. unclean is why it
// did not end cleanly; nil if it did.
func (a *Agent) retire(e *entry, unclean error) {
	if a.entries[e.name] == e {
		delete(a.entries, e.name)
	}
	a.outages.End(condition.StartWaits, e.id)
	e.runner.Retire()
	a.terminated = append(a.terminated, web.Ended{
		Name: e.name, ID: e.id, At: time.Now(), Clean: unclean == nil, RecordsTotal: e.runner.Snapshot().Records,
	})
	if n := len(a.terminated); n > maxTerminated {
		a.terminated = slices.Clone(a.terminated[n-maxTerminated:])
	}
}

// markZombie makes a zombie of a consumer that has not stopped in time: it is reported, it
// keeps what it holds, and no other consumer but one that needs its file waits for it.
func (a *Agent) markZombie(e *entry) {
	if e.cancel == nil || !e.zombieSince.IsZero() {
		return // it ended while the timer fired
	}
	e.zombieSince = time.Now()
	a.zombies = append(a.zombies, e)
	a.log.Error("consumer did not stop in time; it is a zombie and keeps its sink until it ends",
		logkey.Consumer, e.name, logkey.Sink, e.spec.Sink.String(), logkey.Timeout, a.opts.StopTimeout.String())
	a.outages.Begin(condition.Zombie, e.id, condition.Report{Consumer: e.name, Cause: "did not stop within " + a.opts.StopTimeout.String(), Key: "zombie"})
	wasEnding := e.ending
	a.retire(e, errors.New("did not stop in time"))
	if !wasEnding { // stopped, not removed: its entry gets a new consumer
		a.entries[e.name] = a.newEntry(*e.spec)
	}
}

// publish makes the table visible to the HTTP API.
func (a *Agent) publish() {
	s := &web.Snapshot{
		Config: a.config, Reloads: a.reloads,
		Rows:       make([]web.Row, 0, len(a.entries)),
		Terminated: a.terminated[:len(a.terminated):len(a.terminated)],
	}
	listed := make(map[string]bool, len(a.entries))
	add := func(name string) {
		if e := a.entries[name]; e != nil && !listed[name] {
			listed[name] = true
			s.Rows = append(s.Rows, web.Row{ID: e.id, Spec: e.spec, Ending: e.ending, Pending: e.pending.status(), Consumer: e.runner})
		}
	}
	if a.config != nil {
		for _, c := range a.config.Consumers {
			add(c.Name)
		}
	}
	for name := range a.entries {
		add(name)
	}
	for _, z := range a.zombies {
		s.Zombies = append(s.Zombies, web.ZombieConsumer{ID: z.id, Name: z.name, Since: z.zombieSince})
	}
	a.snapshot.Store(s)
	var paths []string
	for i := range s.Rows {
		for _, snk := range s.Rows[i].Spec.Sinks() {
			if path := snk.LocalPath(); path != "" {
				paths = append(paths, path)
			}
		}
	}
	a.disks.Watch(paths)
}
