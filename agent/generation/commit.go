package generation

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/offsets"
	"kcagent/agent/outage"
	"kcagent/condition"
	"kcagent/logkey"
)

// commitState is what the flusher knows of its commits.
type commitState struct {
	lost     bool            // a commit got no response, and may arrive later than the next one
	verifyAt time.Time       // when to check whether it did; zero if never
	causes   outage.CauseLog // of failed checks
}

// verifyAfter is how long after the next commit a lost one may arrive.
const verifyAfter = 5 * time.Second

// commit commits flushed positions. It sends the request itself, because the session's
// Commit hides errors.
func (f *flusher) commit(points map[*Partition]flushPoint) error {
	req := sarama.NewOffsetCommitRequest(f.env.Client.Config(), f.group)
	req.ConsumerGroupGeneration, req.ConsumerID = f.session.GenerationID(), f.session.MemberID()
	if f.instanceID != "" {
		req.GroupInstanceId = &f.instanceID
	}
	sent := make(map[*Partition]offsets.Metadata)
	awaits := f.awaits()
	for p, at := range points {
		m := offsets.Metadata{
			Ledger: f.env.History.copies.Current(at.ledgerID), Lineage: at.pos.Lineage, Topic: at.pos.Topic,
			Partitions: p.initialPartitions, Awaits: awaits, EarlyStart: at.earlyStart,
		}
		if p.needsCommit(at, m) {
			req.AddBlockWithLeaderEpoch(p.Topic, p.Partition, at.pos.Next, at.pos.Epoch.Kafka(), 0, m.String())
			sent[p] = m
		}
	}
	if len(sent) == 0 {
		return nil
	}
	began := time.Now()
	resp, err := f.sendCommit(req)
	if err == nil {
		f.env.Stats.CommitSeconds.Observe(time.Since(began).Seconds())
		err = recordCommits(resp, points, sent)
	}
	if errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) {
		_ = f.env.Client.RefreshCoordinator(f.group)
	}
	if err != nil {
		f.env.Stats.CommitErrors.Add(1)
		return fmt.Errorf("commit offsets of group %s: %w", f.group, err)
	}
	if f.awaits() != awaits {
		f.request(f.accepted) // commit the other partitions with the new metadata
	}
	if f.commits.lost {
		f.commits = commitState{verifyAt: time.Now().Add(verifyAfter)}
	}
	return nil
}

// recordCommits records which partitions were committed. Of several errors it returns that
// of the first partition, so that the text is the same with each retry.
func recordCommits(resp *sarama.OffsetCommitResponse, points map[*Partition]flushPoint, sent map[*Partition]offsets.Metadata) (err error) {
	var first *Partition
	for p, m := range sent {
		code, ok := resp.Errors[p.Topic][p.Partition]
		switch {
		case ok && code == sarama.ErrNoError:
			p.recordCommit(points[p], m)
			continue
		case first != nil && comparePartitions(first, p) < 0:
			continue
		case ok:
			err = fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, code)
		default:
			err = fmt.Errorf("no result for %s/%d in the response", p.Topic, p.Partition)
		}
		first = p
	}
	return err
}

func (f *flusher) sendCommit(req *sarama.OffsetCommitRequest) (*sarama.OffsetCommitResponse, error) {
	coordinator, err := f.env.Client.Coordinator(f.group)
	if err != nil {
		return nil, err
	}
	resp, err := coordinator.CommitOffset(req)
	if err != nil {
		f.commits.lost = true
		_ = f.env.Client.RefreshCoordinator(f.group)
	}
	return resp, err
}

// verifyCommits checks, if that is due, whether a commit without a response arrived after a
// later one, and so moved an offset back. The next flush commits such an offset again.
func (f *flusher) verifyCommits() {
	if at := f.commits.verifyAt; at.IsZero() || time.Now().Before(at) {
		return
	}
	f.commits.verifyAt = time.Time{}
	committed, err := f.offsets.Fetch(f.session.Claims())
	if err != nil {
		f.reportVerifyError(err)
		f.commits.verifyAt = time.Now().Add(verifyAfter)
		return
	}
	if lasted, ok := f.env.Conditions.End(condition.OffsetsUnverified, f.env.Spec.Load().Name); ok {
		f.env.Log.Info("committed offsets verified again", logkey.Lasted, lasted)
	}
	for tp, p := range f.partitions {
		if was, behind := p.checkCommitted(committed[tp]); behind {
			f.env.Log.Warn("a late commit moved the committed offset back; committing again", logkey.Topic, p.Topic, logkey.Partition, p.Partition,
				logkey.From, was, logkey.To, committed[tp].Offset)
		}
	}
}

func (f *flusher) reportVerifyError(err error) {
	spec, now := f.env.Spec.Load(), time.Now()
	first := f.commits.causes.First(outage.CauseKey(err.Error()), now)
	f.env.Conditions.Begin(condition.OffsetsUnverified, spec.Name, condition.Report{
		Consumer: spec.Name, Cause: err.Error(), Key: outage.SharedKey(spec, err), Logged: first,
	})
	if first {
		f.env.Log.Warn("verifying committed offsets failed", logkey.Error, err)
	}
}

// Transient reports errors that a retry a moment later is likely to correct: the
// coordinator has moved, or the connection to it was closed.
func Transient(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.As(err, &netErr) && !netErr.Timeout() || errors.Is(err, sarama.ErrNotConnected) ||
		errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable)
}

// generationOver reports errors of a commit that came after the generation.
func generationOver(err error) bool {
	return errors.Is(err, sarama.ErrIllegalGeneration) ||
		errors.Is(err, sarama.ErrFencedInstancedId) ||
		errors.Is(err, sarama.ErrUnknownMemberId) ||
		errors.Is(err, sarama.ErrRebalanceInProgress)
}

// A MembershipLostError is the cause with which a generation ends once the coordinator has
// rejected a commit, because another member has the partitions, or will have them. What the
// consumer wrote until its next heartbeat, up to two seconds later, would be written by that
// member as well. It wraps the error of the commit.
type MembershipLostError struct{ Err error }

func (e MembershipLostError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the commit.
func (e MembershipLostError) Unwrap() error { return e.Err }

// membershipLost reports errors of a commit after which the member has no partitions. During a
// rebalance, it has them until it joins again.
func membershipLost(err error) bool {
	return generationOver(err) && !errors.Is(err, sarama.ErrRebalanceInProgress)
}
