package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/IBM/sarama"

	"kcagent/leader"
	"kcagent/sink"
)

// commitState is what the flusher knows of its commits.
type commitState struct {
	lost     bool      // a commit got no response, and may arrive later than the next one
	verifyAt time.Time // when to look whether it did; zero if never
	causes   causeLog  // why that fails
}

// verifyAfter is how long after the next commit a lost one is given to arrive.
const verifyAfter = 5 * time.Second

// fetchCommitted asks the coordinator for the committed offsets of the session's
// partitions.
func (s *session) fetchCommitted() (map[sink.TopicPartition]commitment, error) {
	offsets := make(map[sink.TopicPartition]commitment, len(s.partitions))
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
		case block == nil && resp.GroupError() != sarama.ErrNoError:
			return nil, resp.GroupError()
		case block == nil:
			return nil, fmt.Errorf("no answer for %s/%d", tp.Topic, tp.Partition)
		case block.Err != sarama.ErrNoError:
			return nil, block.Err
		}
		c := commitment{offset: block.Offset, epoch: leader.NewEpoch(block.LeaderEpoch)}
		c.meta, c.ours = parseMetadata(block.Metadata)
		offsets[tp] = c
	}
	return offsets, nil
}

// commit commits what is safe. It sends the request itself, for session.Commit hides
// errors.
func (s *session) commit(safe map[*partition]flushPoint) error {
	req := sarama.NewOffsetCommitRequest(s.client.Config(), s.spec.Group)
	req.ConsumerGroupGeneration, req.ConsumerID = s.kafka.GenerationID(), s.kafka.MemberID()
	req.GroupInstanceId = s.instance()
	moved := make(map[*partition]commitMetadata)
	awaits := s.awaits()
	for p, f := range safe {
		m := commitMetadata{s.copies.current(f.ledger), f.at.Lineage, f.at.Topic, p.initial, awaits, f.pinned}
		if p.uncommitted(f, m) {
			req.AddBlockWithLeaderEpoch(p.Topic, p.Partition, f.at.Next, f.at.Epoch.Kafka(), 0, m.String())
			moved[p] = m
		}
	}
	if len(moved) == 0 {
		return nil
	}
	resp, err := s.sendCommit(req)
	var first *partition // that was not committed: the error has the same text each time
	for p, m := range moved {
		if resp == nil {
			break
		}
		code, ok := resp.Errors[p.Topic][p.Partition]
		if ok && code == sarama.ErrNoError {
			p.committedTo(safe[p], m)
			continue
		}
		if first != nil && comparePartitions(first, p) < 0 {
			continue
		}
		if first, err = p, fmt.Errorf("no answer for %s/%d", p.Topic, p.Partition); ok {
			err = fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, code)
		}
	}
	if errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) {
		_ = s.client.RefreshCoordinator(s.spec.Group)
	}
	if err != nil {
		s.stats.commitErrors.Add(1)
		return fmt.Errorf("commit offsets of group %s: %w", s.spec.Group, err)
	}
	if s.awaits() != awaits {
		signal(s.dirty) // the others are committed again
	}
	if s.commits.lost {
		s.commits = commitState{verifyAt: time.Now().Add(verifyAfter)}
	}
	return nil
}

func (s *session) sendCommit(req *sarama.OffsetCommitRequest) (*sarama.OffsetCommitResponse, error) {
	coordinator, err := s.client.Coordinator(s.spec.Group)
	if err != nil {
		return nil, err
	}
	resp, err := coordinator.CommitOffset(req)
	if err != nil {
		s.commits.lost = true
		_ = s.client.RefreshCoordinator(s.spec.Group)
	}
	return resp, err
}

// verifyCommits looks, if that is due, whether a commit without a response arrived
// after a later one, and so moved an offset back. Such an offset is committed again.
func (s *session) verifyCommits() {
	if at := s.commits.verifyAt; at.IsZero() || time.Now().Before(at) {
		return
	}
	s.commits.verifyAt = time.Time{}
	committed, err := s.fetchCommitted()
	if err != nil {
		if s.commits.causes.news(causeKey(err.Error()), s.member.kafka.outages.every, time.Now()) {
			s.log.Warn("verifying committed offsets failed", "error", err)
		}
		s.commits.verifyAt = time.Now().Add(verifyAfter)
		return
	}
	for _, p := range s.partitions {
		if was, back := p.movedBack(committed[p.TopicPartition]); back {
			s.log.Warn("a late commit moved the committed offset back; committing again", "topic", p.Topic, "partition", p.Partition,
				"from", was, "to", committed[p.TopicPartition].offset)
		}
	}
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
