package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/sink"
)

// cutAfter is how long after the order to stop a consumer's connections are
// cut, if it is still there.
const cutAfter = 12 * time.Second

// Origins of faults that concern a consumer as a whole.
const (
	originGroup  = "group"
	originSink   = "sink"
	originCommit = "commit"
)

// keepJoined keeps the consumer a member of its group until ctx ends, and says
// closed when nothing is left.
func (c *consumer) keepJoined(ctx context.Context) {
	var wait backoff
	var unclean error
	for ctx.Err() == nil {
		err := c.join(ctx, &wait)
		if ctx.Err() != nil {
			unclean = err
			break
		}
		if err != nil {
			c.report(origin(err), err)
			c.stats.restarts.Add(1)
			if loginRejected(err) {
				wait.slow()
			}
			wait.wait(ctx, c.hurry)
		}
	}
	c.events <- event{kind: closed, err: unclean}
}

func origin(err error) string {
	if errors.As(err, new(sinkError)) {
		return originSink
	}
	return originGroup
}

// A sinkError is an error of the sink rather than of Kafka.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

// join opens everything, consumes until ctx ends or everything must be opened
// anew, and closes everything. Once ctx has ended, its error says what was not
// saved.
func (c *consumer) join(ctx context.Context, wait *backoff) (err error) {
	spec := *c.spec.Load()
	out, err := c.open(ctx, spec.Sink, sink.Options{Log: c.log, Group: spec.Group, Consumer: spec.Name, Due: func() { signal(c.due) }})
	if err != nil {
		return sinkError{err}
	}
	defer func() {
		if e := out.Close(ends(ctx)); e != nil {
			err = errors.Join(err, sinkError{fmt.Errorf("close sink: %w", e)})
		}
	}()
	m, err := c.connect(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { m.close(ctx) }()
	if len(spec.Cluster.Files()) > 0 {
		ctx, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { m.keepAuthenticated(ctx) })
		defer running.Wait()
		defer stop()
	}
	return m.consume(ctx, out, wait)
}

// A member is a consumer's place in its group.
type member struct {
	*consumer
	spec    config.Consumer
	cluster *cluster
	client  *groupClient
	group   sarama.ConsumerGroup
	ended   time.Time // when the last generation ended; zero before there was one

	memberID atomic.Pointer[string] // in the last generation; nil before there was one
	held     heldPartitions
}

// report is that of the consumer, but for what concerns the cluster as a whole.
func (m *member) report(origin string, err error) {
	m.cluster.recordError(err)
	m.consumer.report(origin, err)
}

// ends reports that ctx has ended because the consumer is stopped, replaced or removed,
// rather than the agent.
func ends(ctx context.Context) bool {
	reason, ok := errors.AsType[StopReason](context.Cause(ctx))
	return ok && !reason.Restarts
}

// close leaves the group and closes all connections. A static member stays in
// the group unless ctx has ended because the consumer is no longer wanted.
func (m *member) close(ctx context.Context) {
	if ends(ctx) {
		if err := m.leave(); err != nil {
			m.log.Warn("leaving the group failed; its partitions rest until the session timeout", "instance_id", m.spec.InstanceID, "error", err)
		}
	}
	if err := m.group.Close(); err != nil {
		m.log.Debug("leaving the group failed", "error", err)
	}
	_ = m.client.Close()
	m.kafka.release(m.cluster)
}

// enter holds one generation. The first one, and one after a long outage, is begun
// only when the cluster lets it in; that it is there has been seen by asking for the
// topics.
func (m *member) enter(ctx context.Context, s *session) error {
	if time.Since(m.ended) > sessionTimeout(&m.spec) {
		m.cluster.recordSuccess()
		// sarama would try for ten seconds before it tells.
		if err := m.client.findCoordinator(ctx); err != nil && !passing(err) {
			return err
		}
		leave, err := m.cluster.admission.enter(ctx)
		if err != nil {
			return err
		}
		defer leave()
		s.joined = leave
	}
	over, end := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watch := &joinWatch{
		client: m.client, static: m.instance() != nil, superseded: s.abandonIfTopicsChanged,
		report: func(err error) { m.report(originGroup, err) },
	}
	watching.Go(func() { s.gaveUp = watch.run(ctx, over) })
	s.entered = func() {
		end()
		watching.Wait() // its reports must not arrive after the join
	}
	defer s.entered()
	return m.group.Consume(ctx, s.topics, s)
}

// vanishingTries is how often in a row a topic that is missing all at once is taken
// for one that will be left out.
const vanishingTries = 3

// hold holds one generation and returns it, with what sarama says of its end and why
// it was given up, if it was.
func (m *member) hold(ctx context.Context, out sink.Sink, maxAge time.Duration) (s *session, lost, err error) {
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	s = newSession(m, out, abandon)
	if s.topics, s.absent, err = m.topics(ctx, s.wish, maxAge, 0); err == nil {
		m.baseline.subscribe(s.wish.TopicsRegex, s.topics, m.awaited.Load())
		err = m.enter(ctx, s)
		if s.gaveUp != nil && errors.Is(err, net.ErrClosed) {
			err = s.gaveUp
		}
	}
	for _, why := range append(s.absent, err) {
		m.baseline.missing(s.wish.TopicsRegex, why)
	}
	lost = context.Cause(ctx)
	if renewed := new(fetch.RenewedError); errors.As(lost, &renewed) {
		m.baseline.recreate(renewed.Topic)
	}
	m.net.membership.End(sessionTimeout(&m.spec))
	if s.stopped != nil {
		m.ended = time.Now()
	}
	return s, lost, err
}

// consume holds one generation after the other until ctx ends or the sink or
// the client must be opened anew.
func (m *member) consume(ctx context.Context, out sink.Sink, wait *backoff) error {
	maxAge := m.kafka.rematch / 2
	for short := 0; ; {
		began := time.Now()
		s, lost, err := m.hold(ctx, out, maxAge)
		switch {
		case ctx.Err() != nil:
			return s.unsaved
		case errors.As(lost, new(*stallError)):
			return lost
		case errors.Is(lost, errResubscribe):
			short, maxAge = 0, 0
		case errors.Is(lost, errUnassigned), errors.Is(err, errForeign):
			if err := m.leave(); err != nil {
				m.log.Warn("leaving the group for a rebalance failed", "error", err)
			}
			short = m.pace(ctx, short, wait)
		case errors.Is(err, sarama.ErrFencedInstancedId):
			m.stats.restarts.Add(1)
			if m.yield(ctx); ctx.Err() != nil {
				return nil // what the other one has taken over is not for this one to save
			}
			return m.explain(err)
		case errors.As(err, new(*fetch.TopicError)) && (s.wish.TopicsRegex != "" || s.topics != nil) && short < vanishingTries:
			// A topic that is being deleted is believed to be gone by the second
			// answer that lacks it.
			short, maxAge = short+1, 0
			wait.wait(ctx, m.hurry)
		case err != nil:
			err = m.explain(err)
			if m.rebuild(err) {
				m.cluster.recordError(err)
				return err
			}
			m.client.forget()
			m.report(origin(err), err)
			m.stats.restarts.Add(1)
			wait.wait(ctx, m.hurry)
			short, maxAge = 0, 0
		case time.Since(began) < time.Second:
			short = m.pace(ctx, short, wait)
		default:
			wait.reset()
			short, maxAge = 0, m.kafka.rematch/2
		}
	}
}

// pace counts a session that ended at once. One is an ordinary rebalance; one after
// the other they must not hammer the coordinator.
func (m *member) pace(ctx context.Context, short int, wait *backoff) int {
	if short++; short > 1 {
		wait.wait(ctx, m.hurry)
	}
	return short
}

// rebuild reports whether a new client is needed: credentials and certificates
// are read when it is built. Else a member keeps the one it has, however long the
// outage was, for with it would go its member id: a broker that was away itself has
// not forgotten that, and would have the new member wait until it has. One that has
// forgotten says so, and sarama joins without an id then.
func (m *member) rebuild(err error) bool {
	return loginRejected(err) && !inLoginBackoff(err) ||
		errors.Is(err, sarama.ErrClosedClient) ||
		errors.Is(err, sarama.ErrClosedConsumerGroup) ||
		m.ended.IsZero()
}

// explain names what the group's error is about.
func (m *member) explain(err error) error {
	var topic *fetch.TopicError
	switch {
	case errors.As(err, new(sinkError)), errors.Is(err, errNoTopic):
		return err
	case errors.As(err, &topic):
		return fmt.Errorf("subscribe to topic %q: %w", topic.Topic, topic.Err)
	}
	if known := m.client.explainJoin(&m.spec, err); known != nil {
		return known
	}
	about := explain
	if m.stats.rebalances.Load() == 0 { // no generation has begun yet
		about = explainFirst
	}
	return fmt.Errorf("join group %s: %w", m.spec.Group, about(&m.spec, err))
}
