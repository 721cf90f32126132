package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	"kcagent/agent/generation"
	"kcagent/agent/outage"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/logkey"
)

// CloseConnectionsAfter is how long after a stop the consumer's connections are closed, if
// it has not ended. The rest of the time until the deadline is left to the sink.
const CloseConnectionsAfter = 12 * time.Second

// A stateMachine derives the state of a running consumer from what its other goroutines
// report. One goroutine owns it.
type stateMachine struct {
	consumer   *Consumer
	generation *generation.Generation // nil between generations
	faults     map[string]error       // by origin
	latest     string                 // origin of the newest fault
	causes     outage.CauseLog        // of the present ERROR
	pausing    bool                   // the gate is shut
	drained    <-chan struct{}        // closed when no write is in progress; nil if not waited for
	flushes    int64                  // number of the newest flush that was requested
	quiet      bool                   // paused, and everything is flushed and committed
}

func newStateMachine(c *Consumer) *stateMachine {
	return &stateMachine{consumer: c, faults: make(map[string]error)}
}

// run handles events until everything is closed after ctx has ended.
func (m *stateMachine) run(ctx context.Context) {
	c := m.consumer
	m.applySpec()
	done := ctx.Done()
	var stopped time.Time
	var closeConnections *time.Timer
	stop := func() {
		done, stopped = nil, time.Now()
		c.setState(Stopping, context.Cause(ctx).Error())
		c.outages.Resolve(c.id, false)
		c.outages.End(condition.ConsumerFails, c.id)
		closeConnections = time.AfterFunc(m.connectionTime(), c.dialer.Cut)
	}
	for {
		select {
		case <-done:
			stop()
		case <-c.specChanged:
			m.applySpec()
		case <-m.drained:
			m.drained = nil
			m.flushForPause()
		case e := <-c.events:
			if e.kind == closed {
				if done != nil { // the run ended before this goroutine received ctx.Done
					stop()
				}
				closeConnections.Stop()
				m.end(ctx, e.err, stopped)
				return
			}
			m.handleEvent(e)
		}
		if done != nil {
			m.deriveState()
		}
	}
}

// connectionTime returns how long after a stop the connections are closed. A sink that publishes
// by plan commits after its last uploads.
func (m *stateMachine) connectionTime() time.Duration {
	if m.consumer.spec.Load().Sink.Objects != nil {
		return generation.StopTime + 2*time.Second
	}
	return CloseConnectionsAfter
}

// end makes the last state change.
func (m *stateMachine) end(ctx context.Context, err error, stopped time.Time) {
	m.consumer.publish(func(s *publicState) {
		if s.EndError = err; err != nil {
			s.Errors = withError(s.Errors, err, false, time.Now())
		}
	})
	stop, ok := errors.AsType[StopReason](context.Cause(ctx))
	if !ok {
		stop.To = Terminated
	}
	reason := "flushed and closed in " + time.Since(stopped).Round(time.Millisecond).String()
	if !stop.Restarts || m.consumer.spec.Load().InstanceID == "" {
		reason = "left the group, " + reason
	}
	if err != nil {
		reason = "ended with an error: " + err.Error()
	}
	m.consumer.setState(stop.To, reason)
}

// applySpec applies the current spec: pause or resume, and changed settings.
func (m *stateMachine) applySpec() {
	switch paused := m.consumer.spec.Load().State == config.Paused; {
	case paused && !m.pausing:
		m.pausing, m.drained = true, m.consumer.gate.Shut()
	case !paused && m.pausing:
		m.pausing, m.quiet, m.drained = false, false, nil
		m.consumer.gate.Open()
	}
	if m.generation != nil {
		m.generation.ApplySpec()
	}
}

func (m *stateMachine) handleEvent(e event) {
	switch e.kind {
	case joined:
		m.generation, m.quiet = e.generation, false
		m.generation.ApplySpec()          // the spec may have changed since Setup
		m.faults = make(map[string]error) // what still fails is reported again
		m.consumer.publish(func(s *publicState) {
			g := e.generation
			s.MemberID, s.Generation, s.Partitions = g.MemberID(), g.ID(), g.SortedPartitions()
			s.Topics, s.StartedWith = g.Topics, g.StartedWith
		})
		m.flushForPause()
	case positioned:
		m.quiet = false
		m.flushForPause() // a position may have to be committed still
	case left:
		m.generation = nil
		m.consumer.publish(func(s *publicState) { s.MemberID, s.Partitions = "", nil })
	case clean:
		// An older flush may have missed records that were accepted while it ran.
		m.quiet = m.pausing && m.drained == nil && e.request == m.flushes
	case faulted:
		m.recordFault(e.origin, e.err)
	}
}

// recordFault records the fault of an origin; a nil err removes it.
func (m *stateMachine) recordFault(origin string, err error) {
	if err == nil {
		delete(m.faults, origin)
		return
	}
	was := m.faults[origin]
	lasted := was != nil && was.Error() == err.Error()
	if !lasted {
		m.latest = origin // a fault that is reported again is not the newest
	}
	m.consumer.publish(func(s *publicState) { s.Errors = withError(s.Errors, err, lasted, time.Now()) })
	m.faults[origin] = err
}

// flushForPause requests a flush and a commit, if a pause needs nothing else. The flusher
// answers with a clean event.
func (m *stateMachine) flushForPause() {
	if m.pausing && m.drained == nil && m.generation != nil {
		m.flushes++
		m.generation.FlushNow(m.flushes)
	}
}

// deriveState changes the state to what the faults, the generation and the pause say.
func (m *stateMachine) deriveState() {
	c := m.consumer
	now := c.published.Load().State
	switch {
	case len(m.faults) > 0:
		m.fail()
	case m.generation == nil, !m.generation.AllPositioned():
		// Between generations the former state remains. RUNNING would be wrong before all
		// partitions have a position: a start at the end may still skip new records.
	case m.quiet:
		m.markRecovered()
		c.setState(Paused, "state: paused; flushed and committed")
	case m.pausing: // wait for the clean event
	case now != Running:
		m.markRecovered()
		c.setState(Running, runningReason(now))
	}
}

func runningReason(from State) string {
	switch from {
	case Paused:
		return "state: running"
	case Failing:
		return "recovered"
	}
	return "joined the group"
}

// markRecovered ends the logging of causes of the present ERROR.
func (m *stateMachine) markRecovered() {
	m.consumer.outages.Resolve(m.consumer.id, true)
	m.consumer.outages.End(condition.ConsumerFails, m.consumer.id) // the change of state has its duration
}

// fail changes the state to ERROR with the newest fault, or shows a new one there. During
// one ERROR each cause is logged once, and outages logs reminders of the present one. Causes
// that concern the cluster as a whole are logged once for all its consumers.
func (m *stateMachine) fail() {
	c := m.consumer
	err := m.newestFault()
	now := time.Now()
	text := err.Error()
	entered := c.published.Load().State != Failing
	switch s := c.published.Load(); {
	case entered:
		m.causes = outage.CauseLog{}
		c.setState(Failing, text)
	case s.Fault != text:
		c.publish(func(s *publicState) { s.Fault = text })
	}
	spec := c.spec.Load()
	if cause, key, ok := outage.ClusterCause(spec, err); ok && !errors.As(err, new(generation.SinkError)) {
		c.outages.Report(c.id, spec, cause, key)
		c.outages.Begin(condition.ConsumerFails, c.id, condition.Report{Consumer: c.name, Cause: text})
		m.causes.First(key, now) // outages logs it
		return
	}
	c.outages.ReportOther(c.id)
	first := m.causes.First(outage.FaultKey(err), now)
	c.outages.Begin(condition.ConsumerFails, c.id, condition.Report{
		Consumer: c.name, Cause: text, Key: outage.SharedKey(spec, err), Logged: first,
	})
	if first && !entered {
		c.log.Warn(condition.ConsumerFails.Reminder, logkey.Cause, text, logkey.Lasts, m.causes.Lasts(now))
	}
}

// newestFault returns the newest fault, or one of the others if that is over.
func (m *stateMachine) newestFault() error {
	if err, ok := m.faults[m.latest]; ok {
		return err
	}
	origins := make([]string, 0, len(m.faults))
	for o := range m.faults {
		origins = append(origins, o)
	}
	m.latest = slices.Min(origins)
	return m.faults[m.latest]
}
