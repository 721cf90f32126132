package agent

import (
	"context"
	"errors"
	"log/slog"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"kcagent/config"
	"kcagent/sink"
)

// openSink opens a consumer's sink; it is sink.Open, except in tests.
type openSink func(context.Context, sink.Spec, sink.Options) (sink.Sink, error)

// A consumer is one entry of the file at work. It lives from create to
// terminate or replace; each time it is to run, run is called once, in a
// goroutine of its own, which owns all that the consumer holds and is the only
// one to change its state.
type consumer struct {
	id      string // changes with each replace, else stays
	name    string
	created time.Time
	log     *slog.Logger

	spec    atomic.Pointer[config.Consumer] // as last asked for; a new value is announced on changed
	changed chan struct{}                   // capacity 1
	hurry   chan struct{}                   // capacity 1: the same, for who waits before a next try
	renew   chan struct{}                   // capacity 1: new credentials are good
	prints  atomic.Pointer[config.Prints]   // of the files with the credentials in use; nil before any were
	due     chan struct{}                   // capacity 1: the sink wants a flush, written or not

	gate     gate
	baseline partitionBaseline
	copies   ledgerCopies
	holes    holes // the watchdog's
	// topics that a probe of a wanted change did not find; nil if there were none
	awaited atomic.Pointer[map[string]bool]
	events  chan event
	net     *dialer
	open    openSink
	kafka   *clusters

	view  atomic.Pointer[view]
	stats stats
}

// A view is what others may see of a consumer: a value that is never changed,
// only replaced.
type view struct {
	State      State
	Since      time.Time
	Started    bool   // has left STARTING once
	Fault      string // why it is in ERROR
	MemberID   string // "" while it is no member
	Generation int32
	Topics     []string         // subscribed to
	Wish       *config.Consumer // what the generation began with; nil before there was one
	Partitions []*partition     // sorted; what they hold is live
	Unclean    error            // why the last end was not clean
}

// A StopReason is the cause with which the context of a run ends.
type StopReason struct {
	To       State // afterwards: Created or Terminated
	Why      string
	Restarts bool // the agent ends and may be started again: a static member stays in its group
}

func (r StopReason) Error() string { return r.Why }

func newConsumer(spec config.Consumer, log *slog.Logger, open openSink, kafka *clusters) *consumer {
	c := &consumer{
		id:      newID(),
		name:    spec.Name,
		created: time.Now(),
		log:     log.With("consumer", spec.Name),
		changed: make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		renew:   make(chan struct{}, 1),
		due:     make(chan struct{}, 1),
		events:  make(chan event, 16),
		holes:   make(holes),
		open:    open,
		kafka:   kafka,
		stats:   newStats(),
	}
	c.spec.Store(&spec)
	c.view.Store(&view{State: Created, Since: c.created})
	return c
}

// Update hands over the spec that is to be applied. It also ends a wait before a retry.
func (c *consumer) Update(spec config.Consumer) {
	c.spec.Store(&spec)
	signal(c.changed)
	signal(c.hurry)
}

// Reconnect has the consumer read its credentials again and reconnect with them.
func (c *consumer) Reconnect() {
	signal(c.renew)
	signal(c.hurry)
}

// Reopen has the sink look whether its files were moved away.
func (c *consumer) Reopen() { signal(c.due) }

// Sample measures the rate of records since the last sample.
func (c *consumer) Sample(now time.Time) { c.stats.sample(now.UnixNano()) }

// signal announces on a channel of capacity 1; one that waits already says the same.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Wait shows what the start of a consumer that does not run waits for.
func (c *consumer) Wait(reason string) {
	if c.view.Load().Fault == reason {
		return
	}
	c.to(Starting, reason)
	c.publish(func(v *view) { v.Fault = reason })
}

// Retire moves a consumer that does not run to TERMINATED.
func (c *consumer) Retire() {
	if c.view.Load().State == Created {
		c.to(Terminated, "removed while it was stopped")
	}
}

// report tells the consumer's goroutine that origin fails with err, or works
// again if err is nil.
func (c *consumer) report(origin string, err error) {
	c.events <- event{kind: fault, origin: origin, err: err}
}

// Run runs the consumer until ctx ends; the cause of ctx is a StopReason. When it
// returns, nothing of the run is left: no goroutine, socket or open file. All its
// goroutines, sarama's too, have its name and id as labels, because they are started
// from here.
func (c *consumer) Run(ctx context.Context) {
	labels := pprof.Labels(labelConsumer, c.name, labelID, c.id)
	pprof.Do(ctx, labels, func(ctx context.Context) {
		c.net = newDialer()
		l := &life{consumer: c, faults: make(map[string]error)}
		l.to(Starting, "state: "+string(c.spec.Load().State))
		l.publish(func(v *view) { v.Fault = "" }) // what the start waited for, if it did
		go c.keepJoined(ctx)
		l.loop(ctx)
	})
}

// A life is the part of a run that only the run's own goroutine sees.
type life struct {
	*consumer
	session *session         // nil between generations
	faults  map[string]error // by origin
	latest  string           // origin of the newest fault
	causes  causeLog         // of the present ERROR
	remind  *time.Timer      // while in ERROR: when to log again that it lasts
	pausing bool             // the gate is shut
	emptied <-chan struct{}  // closed once no write is under way; nil if not waited for
	quiet   bool             // paused, and everything flushed and committed
}

func (l *life) loop(ctx context.Context) {
	l.heed()
	done := ctx.Done()
	var stopped time.Time
	var cut *time.Timer
	l.remind = time.NewTimer(time.Hour)
	l.remind.Stop()
	defer l.remind.Stop()
	stop := func() {
		done, stopped = nil, time.Now()
		l.to(Stopping, context.Cause(ctx).Error())
		l.kafka.outages.resolve(l.id, false)
		// What still hangs in the network now cannot be saved by waiting
		// for it: the deadline is for the sink.
		cut = time.AfterFunc(cutAfter, l.net.cut)
	}
	for {
		select {
		case <-done:
			stop()
		case <-l.changed:
			l.heed()
		case <-l.remind.C: // settle logs it
			l.remind.Reset(l.kafka.outages.every)
		case <-l.emptied:
			l.emptied = nil
			l.settleDown()
		case e := <-l.events:
			if e.kind == closed {
				if done != nil { // all was over before this goroutine saw that it should be
					stop()
				}
				cut.Stop()
				l.end(ctx, e.err, stopped)
				return
			}
			l.take(e)
		}
		if done != nil {
			l.settle()
		}
	}
}

// end is the last move.
func (l *life) end(ctx context.Context, unclean error, stopped time.Time) {
	l.publish(func(v *view) { v.Unclean = unclean })
	reason, ok := errors.AsType[StopReason](context.Cause(ctx))
	if !ok {
		reason.To = Terminated
	}
	why := "flushed and closed in " + time.Since(stopped).Round(time.Millisecond).String()
	if !reason.Restarts || l.spec.Load().InstanceID == "" {
		why = "left the group, " + why
	}
	if unclean != nil {
		why = "ended with an error: " + unclean.Error()
	}
	l.to(reason.To, why)
}

// heed takes over what is asked now: paused or not, and new settings.
func (l *life) heed() {
	switch paused := l.spec.Load().State == config.Paused; {
	case paused && !l.pausing:
		l.pausing, l.emptied = true, l.gate.Shut()
	case !paused && l.pausing:
		l.pausing, l.quiet, l.emptied = false, false, nil
		l.gate.Open()
	}
	if l.session != nil {
		l.session.heed()
	}
}

// take notes what an event says.
func (l *life) take(e event) {
	switch e.kind {
	case joined:
		l.session, l.quiet = e.session, false
		l.session.heed()                  // what was asked since Setup
		l.faults = make(map[string]error) // whatever still fails will say so again
		l.publish(func(v *view) {
			v.MemberID, v.Generation, v.Partitions = e.session.kafka.MemberID(), e.session.kafka.GenerationID(), e.session.sorted()
			v.Topics, v.Wish = e.session.topics, e.session.wish
		})
		l.settleDown()
	case begun:
		l.quiet = false
		l.settleDown() // what was decided may have to be committed still
	case left:
		l.session = nil
		l.publish(func(v *view) { v.MemberID, v.Partitions = "", nil })
	case clean:
		l.quiet = l.pausing && l.emptied == nil
	case fault:
		if e.err == nil {
			delete(l.faults, e.origin)
			return
		}
		if was := l.faults[e.origin]; was == nil || was.Error() != e.err.Error() {
			l.latest = e.origin // one that is reported again is not the newest
		}
		l.faults[e.origin] = e.err
	}
}

// settleDown has everything flushed and committed, if that is all that lacks
// for a pause; the flusher answers with a clean event.
func (l *life) settleDown() {
	if l.pausing && l.emptied == nil && l.session != nil {
		signal(l.session.kick)
	}
}

// settle derives the state from what is known.
func (l *life) settle() {
	now := l.view.Load().State
	switch {
	case len(l.faults) > 0:
		l.fail()
	case l.session == nil, !l.session.begun.Load():
		// Between generations, or what comes now may still be skipped by a start
		// at the end; what it was before says it best.
	case l.quiet:
		l.recovered()
		l.to(Paused, "state: paused; flushed and committed")
	case l.pausing:
		// Not yet quiet.
	case now != Running:
		l.recovered()
		l.to(Running, l.whyRunning(now))
	}
}

func (l *life) whyRunning(from State) string {
	switch from {
	case Paused:
		return "state: running"
	case Failing:
		return "works again"
	}
	return "joined the group"
}

// to makes a move, once, and logs it.
func (c *consumer) to(s State, why string) {
	from := c.view.Load().State
	if from == s {
		return
	}
	if !legal(from, s) {
		c.log.Error("illegal state change refused", "from", string(from), "to", string(s), "why", why)
		return
	}
	level := slog.LevelInfo
	if s == Failing {
		level = slog.LevelError
	}
	c.publish(func(v *view) {
		v.State, v.Since, v.Fault = s, time.Now(), ""
		v.Started = v.Started || from == Starting
		if s == Failing {
			v.Fault = why
		}
		if s == Starting {
			v.Started, v.Unclean = false, nil
		}
	})
	c.log.Log(context.Background(), level, "consumer state changed", "from", string(from), "to", string(s), "why", why)
}

func (c *consumer) publish(change func(*view)) {
	v := *c.view.Load()
	change(&v)
	c.view.Store(&v)
}
