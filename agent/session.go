package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/sink"
)

// A session is one generation of a consumer's membership: sarama calls Setup,
// and Cleanup when it is over. Between the two the session's own goroutines
// consume the partitions. sarama starts none of its own, for its client tells it
// that they are not readable.
type session struct {
	*member
	sink    sink.Sink
	within  string                  // the id of the cluster that the group is in; "" if it is not known
	wish    *config.Consumer        // what it was asked to be when the generation began
	topics  []string                // subscribed to
	absent  []error                 // why topics that are wanted are not among them
	joined  func()                  // lets the next member of the cluster join; nil if nobody waits
	entered func()                  // ends the watch over the join
	gaveUp  error                   // why the watch gave the join up; nil if it did not
	abandon context.CancelCauseFunc // ends the generation: the cause says what is to be opened anew

	kafka      sarama.ConsumerGroupSession // from Setup on
	partitions map[sink.TopicPartition]*partition
	consuming  sync.WaitGroup
	slots      slots
	missing    []string     // topics that do not exist, for the commit metadata
	late       []string     // topics that were created later, and have no committed offset yet; the flusher's
	settings   sync.Mutex   // held while subscriptions get the settings that are in force
	unsettled  atomic.Int32 // partitions that have not been flowing yet
	begun      atomic.Bool  // none is left
	untried    atomic.Int32 // partitions that the sink was not asked to open yet
	starts     startCount

	unflushed atomic.Int64  // bytes accepted since the last flush began
	dirty     chan struct{} // unflushed is no longer 0
	adoptions chan struct{} // partitions wait for a flush or a commit before their first record
	kick      chan struct{} // flush now
	retune    chan struct{} // flush.interval may have changed
	trouble   chan struct{} // a partition may have begun or ceased to fail
	stop      context.CancelFunc
	stopped   chan struct{} // closed when the flusher is gone; nil before it is there
	unsaved   error         // what the last flush and commit could not save

	// The flusher's, and Cleanup's after it.
	anyway  bool // flush even if nothing was written
	commits commitState
}

func newSession(m *member, out sink.Sink, abandon context.CancelCauseFunc) *session {
	return &session{
		member: m, sink: out, abandon: abandon, wish: m.consumer.spec.Load(),
		partitions: make(map[sink.TopicPartition]*partition),
		dirty:      make(chan struct{}, 1),
		kick:       make(chan struct{}, 1),
		retune:     make(chan struct{}, 1),
		trouble:    make(chan struct{}, 1),
		adoptions:  make(chan struct{}, 1),
		slots:      make(slots, chunksAtOnce),
	}
}

// Setup subscribes to the partitions and starts to consume them.
func (s *session) Setup(kafka sarama.ConsumerGroupSession) error {
	s.kafka = kafka
	s.net.membership.Begin()
	s.entered()
	id := kafka.MemberID()
	s.memberID.Store(&id)
	if s.joined != nil {
		s.joined()
	}
	if topic, found := s.foreign(kafka.Claims()); found {
		s.log.Info("assigned is what was asked for once: leaves the group, to join it anew", "topic", topic)
		return errForeign
	}
	for topic, ids := range kafka.Claims() {
		for _, id := range ids {
			tp := sink.TopicPartition{Topic: topic, Partition: id}
			s.partitions[tp] = &partition{TopicPartition: tp, at: sink.Position{Next: -1}, flushed: -1}
		}
	}
	if err := s.prepare(); err != nil {
		return err
	}
	s.unsettled.Store(int32(len(s.partitions)))
	s.untried.Store(int32(len(s.partitions)))
	s.begun.Store(len(s.partitions) == 0)
	ctx, stop := context.WithCancel(context.WithoutCancel(kafka.Context()))
	s.stop, s.stopped = stop, make(chan struct{})
	go func() {
		defer close(s.stopped)
		s.flushLoop(ctx)
	}()
	s.stats.rebalances.Add(1)
	s.log.Info("partitions assigned", "group", s.spec.Group, "member_id", kafka.MemberID(),
		"generation", kafka.GenerationID(), "partitions", len(s.partitions))
	s.events <- event{kind: joined, session: s}
	if s.wish.TopicsRegex == "" { // what matches and cannot be used is being deleted
		for _, err := range s.absent {
			s.report(err.Error(), s.explain(err))
		}
	}
	s.launch(kafka.Context()) // last: joined ends all that was reported before
	return nil
}

// prepare finds out what is committed, and which partitions were added later. What the
// sink knows of a partition is asked by the partition's own goroutine: one file that
// cannot be opened concerns no other partition.
func (s *session) prepare() error {
	s.within = s.cluster.Pin().ID()
	committed, err := s.fetchCommitted()
	if err == nil && s.cluster.Pin().ID() != s.within {
		err = errMoved
	}
	if err != nil {
		return fmt.Errorf("fetch committed offsets of group %s: %w", s.spec.Group, err)
	}
	for tp, p := range s.partitions {
		p.committed = committed[tp]
		p.committed.member = s.held.hold(tp, s.kafka.MemberID())
	}
	s.baseline.within(s.within)
	if err := s.findBaseline(); err != nil {
		return err
	}
	if s.wish.TopicsRegex == "" {
		s.missing, s.late = missingTopics(errors.Join(s.absent...)), s.begunLate()
	}
	return nil
}

// begunLate lists topics that did not exist when the group began, and of which nothing
// may be committed yet: until it is, the commits of others have to say so.
func (s *session) begunLate() (topics []string) {
	for _, t := range s.topics {
		if s.baseline.awaited[t] || s.baseline.addedLater[t] {
			topics = append(topics, t)
		}
	}
	return topics
}

// awaits is for the metadata of the next commit.
func (s *session) awaits() string {
	s.late = slices.DeleteFunc(s.late, s.committedAny)
	return joinAwaited(slices.Concat(s.missing, s.late))
}

// committedAny reports that a partition of the topic, of those of this session, has a
// committed offset.
func (s *session) committedAny(topic string) bool {
	for tp, p := range s.partitions {
		if tp.Topic == topic && p.committedOffset() >= 0 {
			return true
		}
	}
	return false
}

// launch starts the goroutines that last as long as the generation.
func (s *session) launch(ctx context.Context) {
	for _, p := range s.partitions {
		s.consuming.Go(func() { s.consume(ctx, p) })
	}
	s.consuming.Go(func() { s.watch(ctx) })
	if s.wish.TopicsRegex != "" || len(s.absent) > 0 {
		s.consuming.Go(func() { s.follow(ctx) })
	}
	if s.instance() != nil {
		s.consuming.Go(func() { s.watchAssignment(ctx) })
	}
}

// ConsumeClaim implements sarama.ConsumerGroupHandler; see session.
func (s *session) ConsumeClaim(kafka sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) error {
	<-kafka.Context().Done()
	return nil
}

// Cleanup makes safe and commits what was consumed. sarama calls it when the
// session's context has ended, while the member still counts as one; after a
// failed Setup too.
func (s *session) Cleanup(sarama.ConsumerGroupSession) error {
	if s.stopped == nil {
		return nil
	}
	s.consuming.Wait()
	s.stop()
	<-s.stopped
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.kafka.Context()), rebalanceTimeout)
	defer cancel()
	err := s.flush(ctx)
	if c := s.commits; err == nil && !c.verifyAt.IsZero() {
		s.commits.verifyAt = time.Now()
		s.verifyCommits()
		err = s.flush(ctx)
	}
	if err != nil {
		s.unsaved = err
		s.log.Warn("last flush of a generation failed; its records will be read again", "error", err)
	}
	s.release()
	s.log.Info("partitions released", "group", s.spec.Group, "why", fmt.Sprint(context.Cause(s.kafka.Context())))
	s.events <- event{kind: left}
	return nil
}

// release has the sink close what it holds for single partitions.
func (s *session) release() {
	if err := s.sink.Release(); err != nil {
		s.log.Warn("closing files of released partitions failed", "error", err)
	}
}

// subscription says what to read of p.
func (s *session) subscription(p *partition, d decision) fetch.Spec {
	spec := s.consumer.spec.Load()
	offset, at := d.offset, time.Time{}
	if offset < 0 {
		offset, at = d.start.offset, d.start.at
	}
	return fetch.Spec{
		Topic: p.Topic, Partition: p.Partition, Offset: offset, Epoch: d.epoch, Time: at,
		ReadCommitted: spec.Isolation == config.ReadCommitted,
		MaxBytes:      int(spec.MaxPartitionBytes),
		OnOutOfRange:  policies[spec.OnOutOfRange],
		Paused:        s.gate.IsShut(),
		Changed:       func() { signal(s.trouble) },
		Truncated:     s.truncated,
		Reset: func(e fetch.OutOfRangeError) {
			s.stats.offsetResets.Add(1)
			s.log.Warn("offset out of range was reset", "topic", e.Topic, "partition", e.Partition,
				"offset", e.Offset, "first", e.Start, "end", e.End, "policy", string(spec.OnOutOfRange))
		},
	}
}

var policies = map[config.OutOfRange]fetch.Policy{
	config.ResetEarliest: fetch.Earliest,
	config.ResetLatest:   fetch.Latest,
	config.Fail:          fetch.Fail,
}

// reportFetches reports what keeps partitions from being fetched, and when that is
// over.
func (s *session) reportFetches() {
	for _, p := range s.partitions {
		var err error
		if sub := p.sub.Load(); sub != nil {
			err = sub.LastError()
		}
		switch {
		case err == nil && p.fetchError != "":
			p.fetchError = ""
			s.report(fetchOrigin(p), nil)
		case err != nil && p.fetchError != err.Error():
			p.fetchError = err.Error()
			s.report(fetchOrigin(p), explain(&s.spec, err))
		}
	}
}

func fetchOrigin(p *partition) string { return fmt.Sprintf("fetch %s/%d", p.Topic, p.Partition) }

// heed takes over new settings and a changed pause. The agent's wish is
// already in spec and gate.
func (s *session) heed() {
	spec := s.consumer.spec.Load()
	s.tuneSubscriptions(spec)
	s.cluster.Update(fetchSettings(spec.Cluster))
	if err := s.sink.Update(spec.Sink); err != nil {
		s.log.Error("sink refused an update", "error", err)
	}
	signal(s.retune)
	s.abandonIfTopicsChanged()
}

// tuneSubscriptions has the settings apply to every subscription there is; those to
// come are made with them.
func (s *session) tuneSubscriptions(spec *config.Consumer) {
	s.settings.Lock()
	defer s.settings.Unlock()
	shut := s.gate.IsShut()
	for _, p := range s.partitions {
		sub := p.sub.Load()
		switch {
		case sub == nil:
			continue
		case shut:
			sub.Pause()
		default:
			sub.Resume()
		}
		sub.SetMaxBytes(int(spec.MaxPartitionBytes))
	}
}

// abandonIfTopicsChanged abandons the generation, and returns true, once other topics are wanted.
func (s *session) abandonIfTopicsChanged() bool {
	if sameTopics(s.consumer.spec.Load(), s.wish) {
		return false
	}
	s.abandon(errResubscribe)
	return true
}

// sorted lists the partitions by topic and number.
func (s *session) sorted() []*partition {
	ps := make([]*partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, comparePartitions)
	return ps
}

func comparePartitions(a, b *partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

func (s *session) flushSettings() config.Flush { return s.consumer.spec.Load().Flush }

var _ sarama.ConsumerGroupHandler = (*session)(nil)
