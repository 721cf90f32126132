package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/sink"
)

// A session is one generation of a consumer's membership: sarama calls Setup,
// then ConsumeClaim for each partition at once, then Cleanup.
type session struct {
	*member
	sink    sink.Sink
	abandon context.CancelCauseFunc // ends the generation because the sink must be opened anew

	kafka      sarama.ConsumerGroupSession // from Setup on
	partitions map[sink.TopicPartition]*partition

	unflushed atomic.Int64  // bytes accepted since the last flush began
	dirty     chan struct{} // unflushed is no longer 0
	kick      chan struct{} // flush now
	retune    chan struct{} // flush.interval may have changed
	stop      context.CancelFunc
	stopped   chan struct{} // closed when the flusher is gone; nil before it is there
	unsaved   error         // what the last flush and commit could not save
}

func newSession(m *member, out sink.Sink, abandon context.CancelCauseFunc) *session {
	return &session{
		member: m, sink: out, abandon: abandon,
		partitions: make(map[sink.TopicPartition]*partition),
		dirty:      make(chan struct{}, 1),
		kick:       make(chan struct{}, 1),
		retune:     make(chan struct{}, 1),
	}
}

// Setup decides where each partition begins and starts the flusher. sarama
// calls it before any claim starts.
func (s *session) Setup(kafka sarama.ConsumerGroupSession) error {
	s.kafka = kafka
	for topic, ids := range kafka.Claims() {
		for _, id := range ids {
			tp := sink.TopicPartition{Topic: topic, Partition: id}
			s.partitions[tp] = &partition{TopicPartition: tp}
		}
	}
	if err := s.position(); err != nil {
		return err
	}
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
	return nil
}

// Cleanup makes safe and commits what the claims left behind. sarama calls it
// when every claim has returned, while the member still counts as one; after a
// failed Setup too.
func (s *session) Cleanup(sarama.ConsumerGroupSession) error {
	if s.stopped == nil {
		return nil
	}
	s.stop()
	<-s.stopped
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.kafka.Context()), rebalanceTimeout)
	defer cancel()
	if err := s.flush(ctx); err != nil {
		s.unsaved = err
		s.log.Warn("last flush of a generation failed; its records will be read again", "error", err)
	}
	s.log.Info("partitions released", "group", s.spec.Group, "why", fmt.Sprint(context.Cause(s.kafka.Context())))
	s.events <- event{kind: left}
	return nil
}

// position decides where each partition begins: at the committed offset, or
// where spec.Start says if there is none, or where spec.OnOutOfRange says if
// the log no longer holds it.
func (s *session) position() error {
	committed, err := s.fetchCommitted()
	if err != nil {
		return fmt.Errorf("fetch committed offsets of group %s: %w", s.spec.Group, err)
	}
	for tp, p := range s.partitions {
		oldest, err := s.client.GetOffset(tp.Topic, tp.Partition, sarama.OffsetOldest)
		if err != nil {
			return fmt.Errorf("ask for the first offset of %s/%d: %w", tp.Topic, tp.Partition, err)
		}
		newest, err := s.client.GetOffset(tp.Topic, tp.Partition, sarama.OffsetNewest)
		if err != nil {
			return fmt.Errorf("ask for the end offset of %s/%d: %w", tp.Topic, tp.Partition, err)
		}
		start, err := s.startOf(tp, committed[tp], oldest, newest)
		if err != nil {
			return err
		}
		p.committed.Store(committed[tp])
		p.accepted.Store(start)
		p.safe.Store(start)
		p.highWater.Store(newest)
		// Whichever of the two is the right direction applies; sarama asks for
		// the offset after Setup.
		s.kafka.MarkOffset(tp.Topic, tp.Partition, start, "")
		s.kafka.ResetOffset(tp.Topic, tp.Partition, start, "")
	}
	return nil
}

// startOf is where tp begins, given what is committed (-1: nothing) and the
// bounds of its log.
func (s *session) startOf(tp sink.TopicPartition, committed, oldest, newest int64) (int64, error) {
	if committed >= oldest && committed <= newest {
		return committed, nil
	}
	if committed < 0 {
		return s.firstStart(tp, oldest, newest)
	}
	if s.spec.OnOutOfRange == config.Fail {
		return 0, fmt.Errorf("committed offset %d of %s/%d is out of range [%d, %d] and on_offset_out_of_range is fail: "+
			"reset the group's offsets, or choose earliest or latest", committed, tp.Topic, tp.Partition, oldest, newest)
	}
	start := oldest
	if s.spec.OnOutOfRange == config.ResetLatest {
		start = newest
	}
	s.stats.offsetResets.Add(1)
	s.log.Warn("committed offset out of range was reset", "topic", tp.Topic, "partition", tp.Partition,
		"committed", committed, "first", oldest, "end", newest, "start", start, "policy", string(s.spec.OnOutOfRange))
	return start, nil
}

func (s *session) firstStart(tp sink.TopicPartition, oldest, newest int64) (int64, error) {
	switch start := s.spec.Start; {
	case start.Latest:
		return newest, nil
	case !start.At.IsZero():
		offset, err := s.client.GetOffset(tp.Topic, tp.Partition, start.At.UnixMilli())
		if err != nil {
			return 0, fmt.Errorf("ask for the offset of %s/%d at %s: %w", tp.Topic, tp.Partition, start, err)
		}
		if offset < 0 { // no record is that young
			return newest, nil
		}
		return offset, nil
	}
	return oldest, nil
}

// fetchCommitted asks the coordinator for the group's committed offsets, -1
// where there is none.
func (s *session) fetchCommitted() (map[sink.TopicPartition]int64, error) {
	offsets := make(map[sink.TopicPartition]int64, len(s.partitions))
	if len(s.partitions) == 0 {
		return offsets, nil
	}
	coordinator, err := s.client.Coordinator(s.spec.Group)
	if err != nil {
		return nil, err
	}
	resp, err := coordinator.FetchOffset(sarama.NewOffsetFetchRequest(s.client.Config().Version, s.spec.Group, s.kafka.Claims()))
	if err != nil {
		return nil, err
	}
	for tp := range s.partitions {
		block := resp.GetBlock(tp.Topic, tp.Partition)
		switch {
		case block == nil && resp.Err != sarama.ErrNoError:
			return nil, resp.Err
		case block == nil:
			return nil, fmt.Errorf("no answer for %s/%d", tp.Topic, tp.Partition)
		case block.Err != sarama.ErrNoError:
			return nil, block.Err
		}
		offsets[tp] = block.Offset
	}
	return offsets, nil
}

// heed takes over new settings and a changed pause. The agent's wish is
// already in spec and gate.
func (s *session) heed() {
	spec := s.consumer.spec.Load()
	if s.gate.IsShut() {
		s.group.PauseAll()
	} else {
		s.group.ResumeAll()
	}
	if err := s.sink.Update(spec.Sink); err != nil {
		s.log.Error("sink refused an update", "error", err)
	}
	signal(s.retune)
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
