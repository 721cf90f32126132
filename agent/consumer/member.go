package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/generation"
	"kcagent/agent/group"
	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/agent/task"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/logkey"
	"kcagent/retry"
	"kcagent/sink"
	"kcagent/sink/deadletter"
)

// keepJoined keeps the consumer a member of its group until ctx ends. When nothing is left
// of the run, it sends the closed event.
func (c *Consumer) keepJoined(ctx context.Context) {
	var wait retry.Backoff
	var unsaved error
	for ctx.Err() == nil {
		err := c.runMember(ctx, &wait)
		if ctx.Err() != nil {
			unsaved = err
			break
		}
		if err != nil {
			c.report(faultOrigin(err), err)
			c.stats.Restarts.Add(1)
			if login.Rejected(err) {
				wait.Slow()
			}
			wait.Wait(ctx, c.retryNow)
		}
	}
	c.events <- event{kind: closed, err: unsaved}
}

func faultOrigin(err error) string {
	if errors.As(err, new(generation.SinkError)) {
		return generation.OriginSink
	}
	return generation.OriginGroup
}

// runMember opens the sink and the connections, consumes until ctx ends or they have to be
// opened again, and closes them. Once ctx has ended, the error says what was not saved.
//
// One goroutine of each consumer waits in sarama's Consume. Meanwhile, the frames of the functions
// from here to joinAttempt.run stay on its stack, so these functions call others for everything
// that needs many local variables. If the frames take less than 1.2 KiB, the garbage collector can
// shrink the stack from 8 KiB to 4 KiB.
func (c *Consumer) runMember(ctx context.Context, wait *retry.Backoff) error {
	m, err := c.openMember(ctx, wait)
	if err != nil {
		return err
	}
	return m.end(ctx, m.consume(ctx))
}

// openMember opens the sink and prepares the connections.
func (c *Consumer) openMember(ctx context.Context, wait *retry.Backoff) (*member, error) {
	spec := c.spec.Load()
	snk, err := c.openSinks(ctx, spec)
	if err != nil {
		return nil, generation.SinkError{Err: err}
	}
	m, err := c.connect(ctx, spec, snk, wait)
	if err != nil {
		return nil, closeSink(ctx, snk, err)
	}
	c.sink.Store(&snk)
	if len(spec.Cluster.Files()) > 0 {
		m.login = task.New(ctx, m.authenticateAgain)
		c.newLogin.Store(m.login)
		m.login.Request() // the agent may have called Reconnect before
	}
	return m, nil
}

// end closes what openMember has opened. It returns err, and what could not be saved besides.
func (m *member) end(ctx context.Context, err error) error {
	if m.login != nil {
		m.consumer.newLogin.Store(nil)
		m.login.Stop()
	}
	m.close(ctx)
	m.consumer.sink.Store(nil)
	return closeSink(ctx, m.sink, err)
}

// closeSink closes a sink, and adds the error of that to err.
func closeSink(ctx context.Context, snk sink.Sink, err error) error {
	if e := snk.Close(leavesForGood(ctx)); e != nil {
		err = errors.Join(err, generation.SinkError{Err: fmt.Errorf("close sink: %w", e)})
	}
	return err
}

// openSinks opens the sink of the records and, with on_error: dead_letter, the dead-letter file.
func (c *Consumer) openSinks(ctx context.Context, spec *config.Consumer) (sink.Sink, error) {
	o := sink.Options{Log: c.log, Group: spec.Group, Consumer: spec.Name, Due: c.requestFlush, Ready: c.sinkReady, Uploaded: c.stats.Uploaded}
	snk, err := c.openSink(ctx, spec.Sink, o)
	letters, ok := spec.OnError.Sink()
	if err != nil || !ok {
		return snk, err
	}
	second, err := c.openSink(ctx, letters, o)
	if err != nil {
		return nil, errors.Join(deadletter.Explain(err), snk.Close(false))
	}
	return deadletter.New(snk, second), nil
}

// leavesForGood reports that ctx has ended because the consumer is stopped, replaced or
// removed, rather than because the agent ends.
func leavesForGood(ctx context.Context) bool {
	reason, ok := errors.AsType[StopReason](context.Cause(ctx))
	return ok && !reason.Restarts
}

// A member is a consumer's membership in its group, over many generations: its sink and its
// connections. One goroutine uses it, except for what says otherwise.
type member struct {
	consumer *Consumer
	log      *slog.Logger
	spec     *config.Consumer // when the member connected; topics and live settings may differ by now
	sink     sink.Sink
	cluster  *kafka.Cluster
	dialer   *kafka.Dialer
	client   *group.Client
	group    sarama.ConsumerGroup
	wait     *retry.Backoff // before a retry
	login    *task.Task     // reads changed credentials; nil if there are no files with credentials

	listAge time.Duration // how old the list of topics may be for the next generation
	short   int           // generations in a row that ended at once

	ended time.Time              // of the last generation; zero before the first
	id    atomic.Pointer[string] // in the last generation; nil before the first
	// unanswered: a join was sent, and ended before its response, so the coordinator may have the
	// member under an id that is not known here.
	unanswered bool
}

// connect prepares client and group. Nothing is dialled before they are used.
func (c *Consumer) connect(ctx context.Context, spec *config.Consumer, snk sink.Sink, wait *retry.Backoff) (*member, error) {
	m := &member{
		consumer: c, log: c.log, spec: spec, sink: snk, wait: wait,
		cluster: c.clusters.Acquire(spec), dialer: c.dialer,
	}
	if err := m.open(ctx); err != nil {
		c.clusters.Release(m.cluster)
		return nil, err
	}
	return m, nil
}

func (m *member) open(ctx context.Context) error {
	read := m.cluster.Credentials
	select {
	case <-m.consumer.newCredentials:
		read = m.cluster.ReloadCredentials
	default:
	}
	creds, err := read()
	if err != nil {
		return err
	}
	conf, err := group.Config(m.spec, creds, m.dialer, m.cluster.Fetcher)
	if err != nil {
		return err
	}
	m.consumer.fingerprints.Store(&creds.Fingerprints)
	m.client = group.NewClient(ctx, conf, creds, m.spec.Group, m.dialer, m.cluster.Fetcher)
	if m.group, err = m.client.ConsumerGroup(); err != nil {
		return fmt.Errorf("join group %s: %w", m.spec.Group, err)
	}
	return nil
}

// authenticateAgain reconnects if the agent has found that changed credentials are accepted. The
// membership continues. It is the work of a task.
func (m *member) authenticateAgain() {
	select {
	case <-m.consumer.newCredentials:
	default:
		return
	}
	creds, err := m.cluster.ReloadCredentials()
	var conf *sarama.Config
	if err == nil {
		conf, err = group.Config(m.spec, creds, m.dialer, m.cluster.Fetcher)
	}
	if err != nil { // they have changed again since; the agent will report that, too
		m.log.Warn("changed credentials cannot be used; keeping the current ones", logkey.Error, err)
		return
	}
	m.client.Reconnect(conf, creds)
	m.consumer.fingerprints.Store(&creds.Fingerprints)
	m.log.Info("reconnecting with updated credentials", logkey.Cluster, kafka.ClusterName(m.spec))
}

// close leaves the group and closes all connections. A static member stays in the group
// unless the consumer leaves it for good.
func (m *member) close(ctx context.Context) {
	if leavesForGood(ctx) {
		if err := m.leaveAsStatic(); err != nil {
			m.log.Warn("leaving the group failed; its partitions are not consumed until the session timeout", logkey.InstanceID, m.spec.InstanceID, logkey.Error, err)
		}
	}
	if err := m.group.Close(); err != nil {
		m.log.Debug("leaving the group failed", logkey.Error, err)
	}
	_ = m.client.Close()
	m.consumer.clusters.Release(m.cluster)
}

// report reports a fault to the state machine, and to the cluster, which remembers
// rejected credentials. It may be called from any goroutine.
func (m *member) report(origin string, err error) {
	m.cluster.RecordError(err)
	m.consumer.report(origin, err)
}

// consume runs one generation after the other until ctx ends, or sink or client have to be
// opened again.
func (m *member) consume(ctx context.Context) error {
	m.listAge = m.consumer.clusters.Rematch / 2
	for {
		if done, err := m.follow(ctx, m.runGeneration(ctx)); done {
			return err
		}
	}
}

// follow decides, by the end of a generation, what the member does next. It returns true if no
// other generation can follow.
func (m *member) follow(ctx context.Context, end *generationEnd) (done bool, err error) {
	outcome := classify(*end)
	if end.commitLost && outcome != runStopped {
		m.leaveWithRetry(ctx)
	}
	switch outcome {
	case runStopped:
		return true, end.unsaved
	case restartStalled:
		return true, end.cause
	case resubscribe:
		m.short, m.listAge = 0, 0
	case leaveAndRejoin:
		if err := m.leaveAsStatic(); err != nil {
			m.log.Warn("leaving the group to rejoin it failed", logkey.Error, err)
		}
		m.pace(ctx)
	case instanceTaken:
		m.consumer.stats.Restarts.Add(1)
		if m.waitForInstanceID(ctx); ctx.Err() != nil {
			return true, nil // the other member has taken over what was not saved
		}
		return true, m.explain(cmp.Or(end.err, end.cause))
	case refreshTopics:
		m.short, m.listAge = m.short+1, 0
		m.wait.Wait(ctx, m.consumer.retryNow)
	case reopenClient:
		err := m.explain(end.err)
		m.cluster.RecordError(err)
		return true, err
	case retryJoin:
		err := m.explain(end.err)
		m.client.Forget()
		m.report(faultOrigin(err), err)
		m.consumer.stats.Restarts.Add(1)
		m.wait.Wait(ctx, m.consumer.retryNow)
		m.short, m.listAge = 0, 0
	case rejoinSlowly:
		m.pace(ctx)
	case rejoin:
		m.wait.Reset()
		m.short, m.listAge = 0, m.consumer.clusters.Rematch/2
	}
	return false, nil
}

// leaveWithRetry leaves the group, and retries until the coordinator has responded. Otherwise the
// coordinator would accept a late commit of the former member id.
func (m *member) leaveWithRetry(ctx context.Context) {
	var wait retry.Backoff
	for err := m.leaveGroup(); err != nil; err = m.leaveGroup() {
		m.log.Warn("leaving the group to rejoin it failed", logkey.Error, err)
		if !wait.Wait(ctx, m.consumer.retryNow) {
			return
		}
	}
}

// pace counts a generation that ended at once. One of them is an ordinary rebalance. Before
// further ones it waits, so that the coordinator is not overloaded with joins.
func (m *member) pace(ctx context.Context) {
	if m.short++; m.short > 1 {
		m.wait.Wait(ctx, m.consumer.retryNow)
	}
}

// explain says what an error of a join is about, and what the operator can do.
func (m *member) explain(err error) error {
	switch {
	case errors.As(err, new(generation.SinkError)), errors.Is(err, kafka.ErrNoTopic):
		return err
	case errors.As(err, new(*fetch.TopicError)):
		return kafka.SubscribeError(err)
	}
	if known := m.client.ExplainJoin(m.spec, err); known != nil {
		return known
	}
	about := kafka.Explain
	if m.consumer.stats.Rebalances.Load() == 0 { // no generation has started yet
		about = kafka.ExplainFirst
	}
	return fmt.Errorf("join group %s: %w", m.spec.Group, about(m.spec, err))
}
