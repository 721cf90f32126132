package consumer

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"kcagent/agent/gate"
	"kcagent/agent/generation"
	"kcagent/agent/kafka"
	"kcagent/agent/lag"
	"kcagent/agent/offsets"
	"kcagent/agent/outage"
	"kcagent/agent/stats"
	"kcagent/agent/task"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/logkey"
	"kcagent/retry"
	"kcagent/sink"
)

// OpenSink opens a consumer's sink; it is kinds.Open, except in tests.
type OpenSink func(context.Context, sink.Spec, sink.Options) (sink.Sink, error)

// A Consumer is one entry of the file. It lives from create to terminate or replace. Each
// time it is to run, Run is called once, in a goroutine of its own. That goroutine owns the
// state machine and is the only one to change the consumer's state while it runs.
type Consumer struct {
	id       string // changes with each replace
	name     string
	created  time.Time
	log      *slog.Logger
	openSink OpenSink
	clusters *kafka.Clusters
	outages  *outage.Log

	// Requests of other goroutines. Channels have capacity 1.
	spec           atomic.Pointer[config.Consumer]
	specChanged    retry.Signal
	retryNow       retry.Signal // ends a wait before a retry
	newCredentials retry.Signal // the files hold credentials that the cluster accepts
	flushDue       retry.Signal // the sink requests a flush, even if nothing was written
	// awaited are topics that the pre-check of an edit did not find; nil if there are none.
	awaited atomic.Pointer[map[string]bool]

	dialer       *kafka.Dialer                          // of the present run
	fingerprints atomic.Pointer[filewatch.Fingerprints] // of the files with the credentials in use; nil before the first
	gate         gate.Gate                              // shut while paused
	history      generation.History
	events       chan event                            // to the state machine
	newLogin     atomic.Pointer[task.Task]             // reconnects with new credentials; nil while the consumer is not a member
	joined       atomic.Pointer[generation.Generation] // the present generation; nil if there is none
	sink         atomic.Pointer[sink.Sink]             // of the present membership; nil if there is none

	published atomic.Pointer[publicState]
	stats     stats.Stats
	trend     lag.Trend             // of the lag, over all partitions
	sampled   *generation.Partition // the first one of the last sample; only Sample uses it
}

// A publicState is the part of a [Snapshot] that the state machine determines. It is
// replaced, and never changed.
type publicState struct {
	State       State
	Since       time.Time
	Started     bool // it has left STARTING since it was last started
	Fault       string
	Errors      []RecentError
	MemberID    string
	Generation  int32
	Topics      []string
	StartedWith *config.Consumer        // the spec when the last generation started; nil before the first
	Partitions  []*generation.Partition // sorted; live
	EndError    error
}

// A StopReason is the cause with which the context of a run ends.
type StopReason struct {
	To       State // afterwards: Created or Terminated
	Why      string
	Restarts bool // the agent ends and may be started again: a static member stays in its group
}

func (r StopReason) Error() string { return r.Why }

// New returns a consumer in the state CREATED. spec must not be changed afterwards.
func New(spec *config.Consumer, log *slog.Logger, open OpenSink, clusters *kafka.Clusters, outages *outage.Log) *Consumer {
	c := &Consumer{
		id:             offsets.NewID(),
		name:           spec.Name,
		created:        time.Now(),
		log:            log.With(logkey.Consumer, spec.Name),
		openSink:       open,
		clusters:       clusters,
		outages:        outages,
		specChanged:    retry.NewSignal(),
		retryNow:       retry.NewSignal(),
		newCredentials: retry.NewSignal(),
		flushDue:       retry.NewSignal(),
		history:        generation.NewHistory(),
		events:         make(chan event, 4),
		stats:          stats.New(),
	}
	c.spec.Store(spec)
	c.published.Store(&publicState{State: Created, Since: c.created})
	return c
}

// Update hands over the spec that is to be applied, which must not be changed afterwards. It
// also ends a wait before a retry.
func (c *Consumer) Update(spec *config.Consumer) {
	c.spec.Store(spec)
	c.specChanged.Set()
	c.retryNow.Set()
}

// Reconnect makes the consumer read its credentials again and reconnect with them.
func (c *Consumer) Reconnect() {
	c.newCredentials.Set()
	if t := c.newLogin.Load(); t != nil {
		t.Request()
	}
	c.retryNow.Set()
}

// RetryNow ends a wait before a retry.
func (c *Consumer) RetryNow() { c.retryNow.Set() }

// Fingerprints returns the fingerprints of the credentials files in use, by path. It returns
// nil until the consumer has read them.
func (c *Consumer) Fingerprints() filewatch.Fingerprints {
	if prints := c.fingerprints.Load(); prints != nil {
		return *prints
	}
	return nil
}

// Reopen makes the sink check whether its files were moved away.
func (c *Consumer) Reopen() { c.requestFlush() }

// requestFlush requests a flush even if nothing was written: by the present generation, or by
// the next one.
func (c *Consumer) requestFlush() {
	c.flushDue.Set()
	if g := c.joined.Load(); g != nil {
		g.FlushDue()
	}
}

// sinkReady reports that the sink takes records of a partition again.
func (c *Consumer) sinkReady(tp sink.TopicPartition) {
	if g := c.joined.Load(); g != nil {
		g.SinkReady(tp)
	}
}

// AwaitTopics names topics that a pre-check did not find. Once they are created, their
// partitions are later additions, which are read from their beginning.
func (c *Consumer) AwaitTopics(topics []string) {
	awaited := make(map[string]bool)
	maps.Copy(awaited, c.awaitedTopics())
	for _, t := range topics {
		awaited[t] = true
	}
	c.awaited.Store(&awaited)
}

func (c *Consumer) awaitedTopics() map[string]bool {
	if awaited := c.awaited.Load(); awaited != nil {
		return *awaited
	}
	return nil
}

// Connections returns the consumer's own open connections, to its coordinators.
func (c *Consumer) Connections() []net.Conn { return c.dialer.Open() }

// Sample measures the rate of records, and how fast the lag falls, since the last sample. One
// goroutine calls it.
func (c *Consumer) Sample(now time.Time) {
	c.stats.Sample(now.UnixNano())
	var first *generation.Partition
	lags := []lag.Lag{}
	for i, p := range c.published.Load().Partitions {
		if i == 0 {
			first = p
		}
		lags = append(lags, p.SampleLag(now))
	}
	if first != c.sampled { // the partitions of another generation have another sum
		c.sampled = first
		c.trend.Sample(nil, now)
	}
	c.trend.Sample(lag.Sum(lags).Records, now)
}

// Wait sets why a consumer that does not run has not been started yet, and changes its state to
// STARTING. With "", its start is cancelled.
func (c *Consumer) Wait(reason string) {
	switch {
	case c.published.Load().Fault == reason:
		return
	case reason == "":
		c.setState(Created, "its start was cancelled")
		return
	}
	c.setState(Starting, reason)
	c.publish(func(s *publicState) { s.Fault = reason })
}

// Retire moves a consumer that does not run to TERMINATED.
func (c *Consumer) Retire() {
	if c.published.Load().State == Created {
		c.setState(Terminated, "removed while it was stopped")
	}
}

// Run runs the consumer until ctx ends; the cause of ctx is a StopReason. When it
// returns, nothing of the run is left: no goroutine, socket or open file. All its
// goroutines, sarama's too, have its name and id as labels, because they are started
// from here, or by a task that sets them.
func (c *Consumer) Run(ctx context.Context) {
	labels := pprof.Labels(LabelConsumer, c.name, LabelID, c.id)
	pprof.Do(ctx, labels, func(ctx context.Context) {
		c.dialer = kafka.NewDialer()
		c.setState(Starting, "state: "+string(c.spec.Load().State))
		c.publish(func(s *publicState) { s.Fault = "" }) // what the start waited for, see Wait
		go c.keepJoined(ctx)
		newStateMachine(c).run(ctx)
		c.stats.StalledPartitions.Store(0) // the watchdog has ended
	})
}

// report sends the state machine the fault of an origin; a nil err says that origin works
// again.
func (c *Consumer) report(origin string, err error) {
	c.events <- event{kind: faulted, origin: origin, err: err}
}

// setState changes the state and logs that with its reason. It does nothing if the
// consumer is in the state already.
func (c *Consumer) setState(to State, reason string) {
	was := c.published.Load()
	from := was.State
	if from == to {
		return
	}
	if !legal(from, to) {
		c.log.Error("illegal state change rejected", logkey.From, string(from), logkey.To, string(to), logkey.Reason, reason)
		return
	}
	level := slog.LevelInfo
	if to == Failing {
		level = slog.LevelError
	}
	c.publish(func(s *publicState) {
		s.State, s.Since, s.Fault = to, time.Now(), ""
		s.Started = s.Started || from == Starting
		switch to {
		case Failing:
			s.Fault = reason
		case Starting:
			s.Started, s.EndError = false, nil
		}
	})
	log := c.log
	if from == Failing {
		log = log.With(logkey.Lasted, condition.Duration(time.Since(was.Since)))
	}
	log.Log(context.Background(), level, "consumer state changed", logkey.From, string(from), logkey.To, string(to), logkey.Reason, reason)
}

// publish replaces the public state by a changed copy.
func (c *Consumer) publish(change func(*publicState)) {
	s := *c.published.Load()
	change(&s)
	c.published.Store(&s)
}
