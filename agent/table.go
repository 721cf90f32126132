package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kcagent/config"
)

// startAll starts every consumer that is to run and does not, unless another one
// still holds the file that it would write.
func (a *Agent) startAll(ctx context.Context) {
	held := a.holders()
	for _, w := range a.config.Consumers {
		e := a.entries[w.Name]
		if e == nil || e.cancel != nil || e.ending || e.spec.State == config.Stopped || ctx.Err() != nil {
			continue
		}
		if o := held.of(e.spec.Sink, func(o *entry) bool { return o != e }); o != nil {
			e.runner.Wait("waits until " + o.String() + " releases " + e.spec.Sink.String())
			continue
		}
		a.start(ctx, e)
	}
}

func (a *Agent) start(ctx context.Context, e *entry) {
	runCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	e.cancel = cancel
	go func() {
		e.runner.Run(runCtx)
		select {
		case a.ended <- e:
		case <-a.over: // a zombie that ended after the agent
		}
	}()
}

// end takes a consumer out of service for good.
func (a *Agent) end(e *entry, why StopReason) {
	e.ending, e.next = true, nil
	if e.cancel == nil { // no goroutine: it is over at once
		a.bury(e, nil)
		return
	}
	a.stop(e, why)
}

// stop cancels a consumer's run and sets its deadline. It changes nothing for a
// consumer that is stopping already.
func (a *Agent) stop(e *entry, why StopReason) {
	e.cancel(why)
	if e.timer == nil {
		e.timer = time.AfterFunc(a.opts.StopTimeout, func() {
			select {
			case a.overdue <- e:
			case <-a.over:
			}
		})
	}
}

// forget notes that a consumer's goroutine is gone.
func (a *Agent) forget(e *entry) {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	e.cancel = nil
	if !e.since.IsZero() {
		a.zombies = slices.DeleteFunc(a.zombies, func(z *entry) bool { return z == e })
		a.log.Info("zombie has ended", "consumer", e.name, "after", time.Since(e.since).Round(time.Millisecond).String())
		return
	}
	if e.ending {
		a.bury(e, e.runner.Snapshot().EndError)
	}
}

// bury moves a consumer from the table to the list of ended ones.
func (a *Agent) bury(e *entry, unclean error) {
	if a.entries[e.name] == e {
		delete(a.entries, e.name)
	}
	e.runner.Retire()
	a.terminated = append(a.terminated, Ended{
		Name: e.name, ID: e.id, At: time.Now(), Clean: unclean == nil, RecordsTotal: e.runner.Snapshot().Records,
	})
	if n := len(a.terminated); n > 50 {
		a.terminated = slices.Clone(a.terminated[n-50:])
	}
}

// giveUp makes a zombie of a consumer that has not stopped in time: it is
// named, it keeps what it holds, and nobody waits for it.
func (a *Agent) giveUp(e *entry) {
	if e.cancel == nil || !e.since.IsZero() {
		return // it ended while the timer fired
	}
	e.since = time.Now()
	a.zombies = append(a.zombies, e)
	a.log.Error("consumer did not stop in time and is a zombie now; it keeps its sink until it ends",
		"consumer", e.name, "sink", e.spec.Sink.String(), "timeout", a.opts.StopTimeout.String())
	wasEnding := e.ending
	a.bury(e, errors.New("did not stop in time"))
	if !wasEnding { // stopped, not removed: the entry goes on with a new consumer
		a.entries[e.name] = a.newEntry(e.spec)
	}
}

// shutdown stops everything at once and waits, within the deadline.
func (a *Agent) shutdown() error {
	a.log.Info("shutting down", "timeout", a.opts.ShutdownTimeout.String())
	deadline := time.NewTimer(a.opts.ShutdownTimeout)
	defer deadline.Stop()
	alive := map[*entry]bool{}
	for _, e := range a.entries {
		if e.cancel != nil {
			e.ending, e.next = true, nil
			a.stop(e, StopReason{To: Terminated, Why: "the agent shuts down", Restarts: true})
			alive[e] = true
		}
	}
	for _, z := range a.zombies {
		alive[z] = true
	}
	a.publish()
	progress := time.NewTicker(50 * time.Millisecond)
	defer progress.Stop()
	var bad []string
	for len(alive) > 0 {
		select {
		case <-progress.C:
			a.publish()
		case e := <-a.ended:
			delete(alive, e)
			if err := e.runner.Snapshot().EndError; err != nil {
				bad = append(bad, fmt.Sprintf("%s: %v", e.name, err))
			}
			a.forget(e)
		case <-a.overdue: // the shutdown's own deadline decides
		case pong := <-a.pings:
			close(pong)
		case <-deadline.C:
			for e := range alive {
				bad = append(bad, e.name+": did not stop in time")
			}
			alive = nil
		}
	}
	a.clusters.close()
	a.publish()
	if len(bad) > 0 {
		slices.Sort(bad)
		return errors.New("shut down: not every consumer ended cleanly: " + strings.Join(bad, "; "))
	}
	a.log.Info("shut down cleanly")
	return nil
}
