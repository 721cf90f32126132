package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/IBM/sarama"

	"kcagent/sink"
)

// flushLoop flushes when flush.interval has passed since the first unflushed
// record, when flush.bytes wait, and when it is asked to. An idle consumer
// costs it nothing.
func (s *session) flushLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	armed, failed := false, false
	var wait backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
			if !armed {
				timer.Reset(s.flushSettings().Interval)
				armed = true
			}
			continue
		case <-s.retune:
			if armed && !failed {
				timer.Reset(s.flushSettings().Interval)
			}
			continue
		case <-s.due:
			s.anyway = true
		case <-s.kick:
		case <-timer.C:
		}
		armed = false
		timer.Stop()
		placed := s.unplaced.Load() == 0 // first: what is placed later this flush does not cover
		err := s.flush(ctx)
		if err == nil && placed && !s.begun.Load() {
			s.begun.Store(true)
			s.events <- event{kind: begun}
		}
		switch {
		case ctx.Err() != nil:
			return
		case generationOver(err):
			// Not a fault: the group is about to give the partitions out anew,
			// and the next generation reads again what was not committed.
			s.log.Info("commit refused: the generation is over", "error", err)
			err = nil
		case err == nil && failed:
			s.report(originCommit, nil)
			wait.reset()
		case err != nil:
			// What the watchdog cut it has told of.
			if !errors.Is(err, net.ErrClosed) && (failed || !passing(err)) {
				s.report(originCommit, err)
			}
			timer.Reset(wait.next())
			armed = true
		}
		failed = err != nil
		if !failed && s.gate.IsShut() {
			s.events <- event{kind: clean}
		}
	}
}

// A reach is how far a flush covers a partition.
type reach struct {
	next    int64
	entered bool // in the sink's account
}

// flush makes safe what the sink accepted before the call, and only then
// commits it. It never stops the flow: what arrives meanwhile is for the next
// flush.
func (s *session) flush(ctx context.Context) error {
	s.unflushed.Store(0)
	reached := make(map[*partition]reach, len(s.partitions))
	unsafe := s.anyway
	for _, p := range s.partitions {
		entered := p.entered.Load() // first: what is entered later this flush does not cover
		reached[p] = reach{p.accepted.Load(), entered}
		unsafe = unsafe || reached[p].next != p.safe.Load() || entered && !p.owned.Load()
	}
	if unsafe {
		began := time.Now()
		if err := s.sink.Flush(ctx); err != nil {
			s.stats.sinkErrors.Add(1)
			if errors.Is(err, sink.ErrLost) {
				s.abandon(sinkError{err})
			}
			return sinkError{fmt.Errorf("flush: %w", err)}
		}
		s.anyway = false
		s.stats.flushSeconds.Observe(time.Since(began).Seconds())
		s.stats.lastFlush.Store(time.Now().UnixNano())
		for p, r := range reached {
			p.safe.Store(r.next)
		}
	}
	return s.commit(reached)
}

// commit tells the coordinator how far each partition is safe. It sends the
// request itself, for session.Commit hides errors.
func (s *session) commit(safe map[*partition]reach) error {
	req := sarama.NewOffsetCommitRequest(s.client.Config(), s.spec.Group)
	req.ConsumerGroupGeneration, req.ConsumerID = s.kafka.GenerationID(), s.kafka.MemberID()
	req.GroupInstanceId = s.instance()
	var moved []*partition
	for p, r := range safe {
		if r.next >= 0 && (r.next != p.committed.Load() || r.entered && !p.owned.Load()) {
			req.AddBlockWithLeaderEpoch(p.Topic, p.Partition, r.next, -1, 0, p.note(r.entered).String())
			moved = append(moved, p)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	if err := s.sendCommit(req, moved); err != nil {
		s.stats.commitErrors.Add(1)
		return fmt.Errorf("commit offsets of group %s: %w", s.spec.Group, err)
	}
	for _, p := range moved {
		p.committed.Store(safe[p].next)
		if safe[p].entered && p.owner != "" {
			p.own()
		}
	}
	return nil
}

func (s *session) sendCommit(req *sarama.OffsetCommitRequest, moved []*partition) error {
	coordinator, err := s.client.Coordinator(s.spec.Group)
	if err != nil {
		return err
	}
	resp, err := coordinator.CommitOffset(req)
	if err != nil {
		_ = s.client.RefreshCoordinator(s.spec.Group)
		return err
	}
	for _, p := range moved {
		code, ok := resp.Errors[p.Topic][p.Partition]
		switch {
		case !ok:
			return fmt.Errorf("no answer for %s/%d", p.Topic, p.Partition)
		case code == sarama.ErrNotCoordinatorForConsumer, code == sarama.ErrConsumerCoordinatorNotAvailable:
			_ = s.client.RefreshCoordinator(s.spec.Group)
			return code
		case code != sarama.ErrNoError:
			return fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, code)
		}
	}
	return nil
}

// passing reports errors that the next try, a moment later, is likely to be spared:
// the coordinator moves, or the connection to it has ended.
func passing(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.As(err, &netErr) && !netErr.Timeout() || errors.Is(err, sarama.ErrNotConnected) ||
		errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable)
}

func generationOver(err error) bool {
	return errors.Is(err, sarama.ErrIllegalGeneration) ||
		errors.Is(err, sarama.ErrFencedInstancedId) ||
		errors.Is(err, sarama.ErrUnknownMemberId) ||
		errors.Is(err, sarama.ErrRebalanceInProgress)
}
