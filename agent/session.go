package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

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
	wish    *config.Consumer        // what it was asked to be when the generation began
	topics  []string                // subscribed to
	absent  []error                 // why topics that are wanted are not among them
	joined  func()                  // lets the next member of the cluster join; nil if nobody waits
	abandon context.CancelCauseFunc // ends the generation: the cause says what is to be opened anew

	kafka      sarama.ConsumerGroupSession // from Setup on
	partitions map[sink.TopicPartition]*partition
	consuming  sync.WaitGroup
	writing    slots
	unplaced   atomic.Int32 // partitions whose position is not known to be good
	begun      atomic.Bool  // none is left, and none that is not committed could be another one after a crash
	pins       bool         // a position is to be committed before that; see begin

	unflushed atomic.Int64  // bytes accepted since the last flush began
	dirty     chan struct{} // unflushed is no longer 0
	kick      chan struct{} // flush now
	retune    chan struct{} // flush.interval may have changed
	trouble   chan struct{} // a partition may have begun or ceased to fail
	stop      context.CancelFunc
	stopped   chan struct{} // closed when the flusher is gone; nil before it is there
	anyway    bool          // flush even if nothing was written; the flusher's, and Cleanup's after it
	unsaved   error         // what the last flush and commit could not save
}

func newSession(m *member, out sink.Sink, abandon context.CancelCauseFunc) *session {
	return &session{
		member: m, sink: out, abandon: abandon, wish: m.consumer.spec.Load(),
		partitions: make(map[sink.TopicPartition]*partition),
		dirty:      make(chan struct{}, 1),
		kick:       make(chan struct{}, 1),
		retune:     make(chan struct{}, 1),
		trouble:    make(chan struct{}, 1),
		writing:    make(slots, chunksAtOnce),
	}
}

// Setup subscribes to the partitions and starts to consume them.
func (s *session) Setup(kafka sarama.ConsumerGroupSession) error {
	s.kafka = kafka
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
			s.partitions[tp] = &partition{TopicPartition: tp}
		}
	}
	if err := s.place(kafka.Context()); err != nil {
		s.release()
		return err
	}
	for _, p := range s.partitions {
		p.sub = s.cluster.Subscribe(s.subscription(p))
	}
	s.unplaced.Store(int32(len(s.partitions)))
	s.begun.Store(len(s.partitions) == 0)
	ctx, stop := context.WithCancel(context.WithoutCancel(kafka.Context()))
	s.stop, s.stopped = stop, make(chan struct{})
	go func() {
		defer close(s.stopped)
		s.flushLoop(ctx)
	}()
	for _, p := range s.partitions {
		s.consuming.Go(func() { s.consume(kafka.Context(), p) })
	}
	s.consuming.Go(func() { s.watch(kafka.Context()) })
	if s.wish.TopicsRegex != "" || len(s.absent) > 0 {
		s.consuming.Go(func() { s.follow(kafka.Context()) })
	}
	if s.instance() != nil {
		s.consuming.Go(func() { s.watchAssignment(kafka.Context()) })
	}
	s.stats.rebalances.Add(1)
	s.log.Info("partitions assigned", "group", s.spec.Group, "member_id", kafka.MemberID(),
		"generation", kafka.GenerationID(), "partitions", len(s.partitions))
	s.events <- event{kind: joined, session: s}
	if s.wish.TopicsRegex == "" { // what matches and cannot be used is being deleted
		for _, err := range s.absent {
			s.report(err.Error(), s.explain(err))
		}
	}
	return nil
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
	if err := s.flush(ctx); err != nil {
		s.unsaved = err
		s.log.Warn("last flush of a generation failed; its records will be read again", "error", err)
	}
	s.release()
	s.log.Info("partitions released", "group", s.spec.Group, "why", fmt.Sprint(context.Cause(s.kafka.Context())))
	s.events <- event{kind: left}
	return nil
}

// release has the sink let go of what it holds for single partitions.
func (s *session) release() {
	if r, ok := s.sink.(sink.Resumer); ok {
		if err := r.Release(); err != nil {
			s.log.Warn("closing files of released partitions failed", "error", err)
		}
	}
}

// subscription says what to read of p.
func (s *session) subscription(p *partition) fetch.Spec {
	spec := s.consumer.spec.Load()
	begin := p.begin(spec.Start)
	return fetch.Spec{
		Topic: p.Topic, Partition: p.Partition, Offset: begin.Offset, Time: begin.Time,
		ReadCommitted: spec.Isolation == config.ReadCommitted,
		MaxBytes:      int(spec.MaxPartitionBytes),
		OnOutOfRange:  policies[spec.OnOutOfRange],
		Paused:        s.gate.IsShut(),
		Changed:       func() { signal(s.trouble) },
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

// reportFetches tells what keeps partitions from being fetched, or that it does
// no more.
func (s *session) reportFetches() {
	for _, p := range s.partitions {
		err := p.sub.LastError()
		switch {
		case err == nil && p.trouble != "":
			p.trouble = ""
			s.report(fetchOrigin(p), nil)
		case err != nil && p.trouble != err.Error():
			p.trouble = err.Error()
			s.report(fetchOrigin(p), explain(&s.spec, err))
		}
	}
}

func fetchOrigin(p *partition) string { return fmt.Sprintf("fetch %s/%d", p.Topic, p.Partition) }

// heed takes over new settings and a changed pause. The agent's wish is
// already in spec and gate.
func (s *session) heed() {
	spec := s.consumer.spec.Load()
	shut := s.gate.IsShut()
	for _, p := range s.partitions {
		if shut {
			p.sub.Pause()
		} else {
			p.sub.Resume()
		}
		p.sub.SetMaxBytes(int(spec.MaxPartitionBytes))
	}
	s.cluster.Update(fetchSettings(spec.Cluster.Fetch))
	if err := s.sink.Update(spec.Sink); err != nil {
		s.log.Error("sink refused an update", "error", err)
	}
	signal(s.retune)
	if !sameTopics(spec, s.wish) {
		s.abandon(errResubscribe)
	}
}

// sorted lists the partitions by topic and number.
func (s *session) sorted() []*partition {
	ps := make([]*partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return ps
}

func (s *session) flushSettings() config.Flush { return s.consumer.spec.Load().Flush }

var _ sarama.ConsumerGroupHandler = (*session)(nil)
