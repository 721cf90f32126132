package consumer

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/generation"
	"kcagent/agent/group"
	"kcagent/agent/kafka"
	"kcagent/agent/reject"
	"kcagent/agent/task"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/logkey"
	"kcagent/retry"
)

var (
	errForeignTopic        = errors.New("a topic is assigned that is not subscribed to")
	errUnassignedPartition = errors.New("a partition is assigned to no member")
)

// runGeneration runs one generation with the topics of the current spec.
func (m *member) runGeneration(ctx context.Context) *generationEnd {
	joining, abandon := context.WithCancelCause(ctx)
	end := &generationEnd{began: time.Now(), shortBefore: m.short}
	j := m.prepare(joining, abandon, end)
	if j != nil {
		j.consuming = ctx
		end.err = j.run(joining)
	}
	m.conclude(joining, j, end)
	abandon(nil)
	end.stopped = ctx.Err() != nil
	return end
}

// prepare looks up the topics. It returns nil and sets end.err if that fails.
func (m *member) prepare(ctx context.Context, abandon context.CancelCauseFunc, end *generationEnd) *joinAttempt {
	spec := m.consumer.spec.Load()
	end.pattern, end.followsPattern = spec.TopicsRegex, spec.TopicsRegex != ""
	var topics []string
	topics, end.absent, end.err = m.topics(ctx, spec, m.listAge, 0)
	if end.err != nil {
		return nil
	}
	end.listedTopics = true
	m.consumer.history.Baseline.Subscribe(spec.TopicsRegex, topics, m.consumer.awaitedTopics())
	return newJoinAttempt(m, spec, topics, end.absent, abandon)
}

// conclude records how a generation ended. j is nil if the topics were not found.
func (m *member) conclude(ctx context.Context, j *joinAttempt, end *generationEnd) {
	baseline := &m.consumer.history.Baseline
	if j != nil {
		end.unsaved, end.commitLost = j.generation.Unsaved(), j.generation.CommitLost()
		if j.generation.Joined() {
			m.ended = time.Now()
		}
	}
	for _, t := range kafka.MissingTopics(errors.Join(append(end.absent, end.err)...)) {
		baseline.TopicMissing(t)
	}
	if errors.Is(end.err, kafka.ErrNoTopic) {
		baseline.NothingMatched(end.pattern)
	}
	end.cause = context.Cause(ctx)
	if recreated, ok := errors.AsType[*fetch.RecreatedError](end.cause); ok {
		baseline.Recreate(recreated.Topic)
	}
	m.dialer.Membership.End(group.SessionTimeout(m.spec))
	end.lasted, end.everJoined = time.Since(end.began), !m.ended.IsZero()
}

// A joinAttempt is one attempt of a member to join its group, and the generation that follows.
// sarama calls its Setup and Cleanup, which do what concerns the membership, and call those
// of the generation.
type joinAttempt struct {
	member     *member
	generation *generation.Generation
	spec       *config.Consumer        // when the attempt started
	abandon    context.CancelCauseFunc // ends the attempt, or the generation

	consuming context.Context // of the run of the consumer: ends when it is stopped

	admitted func()       // lets the next member of the cluster join; nil if the join needed no admission
	endWatch func()       // ends the watch over the join
	gaveUp   error        // why the watch ended the join; nil if it did not
	checks   []*task.Task // of topics and assignment during the generation
	setUp    bool         // the coordinator has answered, so the id of the member is known
}

func newJoinAttempt(m *member, spec *config.Consumer, topics []string, absent []error, abandon context.CancelCauseFunc) *joinAttempt {
	c := m.consumer
	j := &joinAttempt{member: m, spec: spec, abandon: abandon}
	j.generation = generation.New(generation.Env{
		Log: c.log, Spec: &c.spec, Sink: m.sink, Rejects: reject.New(spec, m.sink), Cluster: m.cluster, Client: m.client,
		Gate: &c.gate, Stats: &c.stats, History: &c.history, FlushDue: c.flushDue,
		Conditions: c.outages.Log, Observer: j,
	}, spec, topics, absent, abandon)
	return j
}

// run joins, and returns when the generation has ended. The first join, and one after a
// long outage, waits for the admission of the cluster. The cluster is reachable, because the
// topics were looked up before.
func (j *joinAttempt) run(ctx context.Context) error {
	if err := j.admit(ctx); err != nil {
		return err
	}
	j.watch(ctx)
	sent := j.member.dialer.Joins()
	err := j.member.group.Consume(ctx, j.generation.Topics, j)
	j.member.recordJoin(j.setUp, j.member.dialer.Joins() > sent, err)
	return j.release(err)
}

// admit waits for the admission, if the join needs it.
func (j *joinAttempt) admit(ctx context.Context) (err error) {
	m := j.member
	if time.Since(m.ended) <= group.SessionTimeout(m.spec) {
		return nil
	}
	m.cluster.RecordSuccess()
	// sarama would retry for ten seconds before it returns an error.
	if err := m.client.FindCoordinator(ctx); err != nil && !generation.Transient(err) {
		return err
	}
	j.admitted, err = m.cluster.Admission.Enter(ctx)
	return err
}

// watch starts a [group.JoinWatch].
func (j *joinAttempt) watch(ctx context.Context) {
	m := j.member
	over, end := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watch := &group.JoinWatch{
		Client: m.client, Instance: m.instance(), Superseded: j.abandonIfTopicsChanged,
		Report: func(err error) { m.report(generation.OriginGroup, err) },
	}
	watching.Go(func() { j.gaveUp = watch.Run(ctx, over) })
	j.endWatch = func() {
		end()
		watching.Wait() // its reports must not arrive after the join
	}
}

// release ends the watch and the admission. It returns the error of the join, or why the watch
// ended it.
func (j *joinAttempt) release(err error) error {
	j.endWatch()
	if j.admitted != nil {
		j.admitted()
	}
	if j.gaveUp != nil && errors.Is(err, net.ErrClosed) {
		return j.gaveUp
	}
	return err
}

// Setup implements [sarama.ConsumerGroupHandler].
func (j *joinAttempt) Setup(session sarama.ConsumerGroupSession) error {
	m := j.member
	session = m.client.Session(session)
	m.dialer.Membership.Begin()
	j.endWatch()
	id := session.MemberID()
	m.id.Store(&id)
	j.setUp = true
	if j.admitted != nil {
		j.admitted()
	}
	if topic, found := j.foreignTopic(session.Claims()); found {
		m.log.Info("a topic of a former subscription is assigned; leaving and rejoining the group", logkey.Topic, topic)
		return errForeignTopic
	}
	if err := j.generation.Setup(session); err != nil {
		return err
	}
	ctx := session.Context()
	if j.spec.TopicsRegex != "" || len(j.generation.Absent) > 0 {
		j.checkRegularly(ctx, m.consumer.clusters.Rematch, func() { j.checkTopics(ctx) })
	}
	if m.instance() != nil {
		j.checkRegularly(ctx, firstAssignmentCheck, j.checkAssignment)
	}
	return nil
}

// checkRegularly calls check after first, and then at each interval of Rematch, both with jitter,
// until ctx ends.
func (j *joinAttempt) checkRegularly(ctx context.Context, first time.Duration, check func()) {
	var t *task.Task
	t = task.New(ctx, func() {
		if check(); ctx.Err() == nil {
			t.At(time.Now().Add(retry.Jitter(j.member.consumer.clusters.Rematch)))
		}
	})
	t.At(time.Now().Add(retry.Jitter(first))) // with jitter, one member is the first to see a change
	j.checks = append(j.checks, t)
}

// ConsumeClaim implements [sarama.ConsumerGroupHandler]. sarama never calls it, because it does
// not know the assigned partitions.
func (j *joinAttempt) ConsumeClaim(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim) error {
	return nil
}

// Cleanup implements [sarama.ConsumerGroupHandler].
func (j *joinAttempt) Cleanup(sarama.ConsumerGroupSession) error {
	for _, t := range j.checks {
		t.Stop()
	}
	return j.generation.Cleanup(j.consuming)
}

// foreignTopic returns a topic of the claims that is not subscribed to. A static member that
// rejoins is given its former assignment, whatever it subscribes to now.
func (j *joinAttempt) foreignTopic(claims map[string][]int32) (topic string, found bool) {
	for t := range claims {
		if !slices.Contains(j.generation.Topics, t) {
			return t, true
		}
	}
	return "", false
}

// abandonIfTopicsChanged ends the attempt, and returns true, once the consumer has to
// subscribe to other topics.
func (j *joinAttempt) abandonIfTopicsChanged() bool {
	if kafka.SameTopics(j.member.consumer.spec.Load(), j.spec) {
		return false
	}
	j.abandon(generation.ErrTopicsChanged)
	return true
}

// Joined implements observer.
func (j *joinAttempt) Joined(g *generation.Generation) {
	j.member.consumer.joined.Store(g)
	j.member.consumer.events <- event{kind: joined, generation: g}
}

// Positioned implements observer.
func (j *joinAttempt) Positioned() { j.member.consumer.events <- event{kind: positioned} }

// Clean implements observer.
func (j *joinAttempt) Clean(request int64) {
	j.member.consumer.events <- event{kind: clean, request: request}
}

// Left implements observer.
func (j *joinAttempt) Left() {
	j.member.consumer.joined.Store(nil)
	j.member.consumer.events <- event{kind: left}
}

// Report implements observer.
func (j *joinAttempt) Report(origin string, err error) { j.member.report(origin, err) }

var (
	_ sarama.ConsumerGroupHandler = (*joinAttempt)(nil)
	_ generation.Observer         = (*joinAttempt)(nil)
)
