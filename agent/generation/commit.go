package generation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/offsets"
	"kcagent/agent/outage"
	"kcagent/condition"
	"kcagent/fetch"
	"kcagent/logkey"
	"kcagent/sink"
)

// commitState is what the flusher knows of its commits.
type commitState struct {
	lost     bool            // a commit got no response, and may arrive later than the next one
	verifyAt time.Time       // when to check whether it did; zero if never
	causes   outage.CauseLog // of failed checks
}

// verifyAfter is how long after the next commit a lost one may arrive.
const verifyAfter = 5 * time.Second

// commitPoints returns what is to be committed of the partitions of points after a good flush, and
// removes the partitions that the sink has reopened since the flush, and those whose topic was recreated.
func (f *flusher) commitPoints(points map[*Partition]flushPoint) map[*Partition]commitPoint {
	commits := make(map[*Partition]commitPoint, len(points))
	f.pending = false
	for p, flushed := range points {
		at := commitPoint{flushPoint: flushed, commit: sink.Commit{Position: flushed.pos}}
		if at.planned {
			at.commit = f.env.Sink.Plan(p.TopicPartition, at.pos)
		}
		keep := at.commit.Next >= 0
		if keep && at.planned && f.recreated(p, at.pos) {
			keep = false
			p.endRound(at.round, &fetch.RecreatedError{Topic: p.Topic}) // if it is not read at the moment, nothing else does
		}
		if !keep || !p.recordFlush(at) {
			delete(points, p)
			continue
		}
		commits[p] = at
		f.pending = f.pending || at.pending()
	}
	return commits
}

// commit commits what differs from what the group has committed, and then lets the sink publish
// it. It returns the number of partitions whose commit the sink has published since. commit sends
// the request itself, because the session's Commit hides errors.
func (f *flusher) commit(ctx context.Context, points map[*Partition]commitPoint) (published int, err error) {
	req := sarama.NewOffsetCommitRequest(f.env.Client.Config(), f.group)
	req.ConsumerGroupGeneration, req.ConsumerID = f.session.GenerationID(), f.session.MemberID()
	if f.instanceID != "" {
		req.GroupInstanceId = &f.instanceID
	}
	sent := make(map[*Partition]commitPoint)
	awaits := f.awaits()
	for p, at := range points {
		at.meta = offsets.Metadata{
			Ledger: f.env.History.copies.Current(at.ledgerID), Lineage: at.pos.Lineage, Topic: at.pos.Topic,
			Partitions: p.initialPartitions, Awaits: awaits, EarlyStart: at.earlyStart,
		}
		if f.planned {
			p.prepareCommit(&at, f.planSettings)
		}
		switch {
		case p.needsCommit(at):
			sent[p] = at
		case at.planned && at.commit.Plan == nil: // committed before, with another nonce
			f.env.Sink.Publish(p.TopicPartition, at.commit)
		}
	}
	unconfirmed := f.confirmTopics(ctx, sent)
	if len(sent) == 0 {
		return 0, f.commitError(unconfirmed)
	}
	for p, at := range sent {
		req.AddBlockWithLeaderEpoch(p.Topic, p.Partition, at.commit.Next, at.commit.Epoch.Kafka(), 0, at.meta.String())
	}
	began := time.Now()
	resp, err := f.sendCommit(req, sent)
	if err == nil {
		f.env.Stats.CommitSeconds.Observe(time.Since(began).Seconds())
		published, err = f.recordCommits(resp, sent)
	}
	if errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) {
		_ = f.env.Client.RefreshCoordinator(f.group)
	}
	if err != nil {
		f.env.Stats.CommitErrors.Add(1)
		return published, f.commitError(err)
	}
	if f.awaits() != awaits {
		f.request(f.accepted) // commit the other partitions with the new metadata
	}
	if f.commits.lost {
		f.commits = commitState{verifyAt: time.Now().Add(verifyAfter)}
	}
	return published, f.commitError(unconfirmed)
}

func (f *flusher) commitError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("commit offsets of group %s: %w", f.group, err)
}

// confirmTopics removes the partitions with a new plan whose topic was recreated, or may have been: the
// sink may have records of the new topic then, because fetch requests have the name of the topic, and no
// id. Once the brokers agree, the round of the partition ends. It returns the error of one of them.
func (f *flusher) confirmTopics(ctx context.Context, sent map[*Partition]commitPoint) error {
	var topics []string
	for p, at := range sent {
		if at.meta.Plan != nil && !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	slices.Sort(topics)
	failed, err := f.env.Cluster.Confirm(ctx, topics)
	var first error
	for p, at := range sent {
		if at.meta.Plan == nil {
			continue
		}
		cause := cmp.Or(err, failed[p.Topic])
		if cause == nil && f.recreated(p, at.pos) {
			cause = &fetch.RecreatedError{Topic: p.Topic}
			p.endRound(at.round, cause)
		}
		if cause == nil {
			continue
		}
		delete(sent, p)
		if first == nil || cause.Error() < first.Error() { // the same with each retry
			first = cause
		}
	}
	return first
}

// recreated reports that the topic of p is not that of the position any more.
func (f *flusher) recreated(p *Partition, pos sink.Position) bool {
	_, id := f.env.Cluster.Identity(p.Topic)
	return offsets.Differ(id, pos.Topic.Topic)
}

// recordCommits records which partitions were committed, and lets the sink publish them. Of
// several errors it returns the error of the first partition, so that the text is the same with
// each retry.
func (f *flusher) recordCommits(resp *sarama.OffsetCommitResponse, sent map[*Partition]commitPoint) (published int, err error) {
	var first *Partition
	for p, at := range sent {
		code, ok := resp.Errors[p.Topic][p.Partition]
		if ok && code == sarama.ErrNoError {
			published += f.recordCommit(p, at)
			continue
		}
		f.resent[p] = at.meta.Nonce // it may be in force nevertheless, and is sent again
		switch {
		case first != nil && comparePartitions(first, p) < 0:
			continue
		case ok && code == sarama.ErrOffsetMetadataTooLarge && at.meta.Plan != nil:
			err = fmt.Errorf("%s/%d: the plan of its objects needs %d bytes: raise offset.metadata.max.bytes of the brokers, or shorten url and key of sink.objects: %w",
				p.Topic, p.Partition, len(at.meta.String()), code)
		case ok:
			err = fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, code)
		default:
			err = fmt.Errorf("no result for %s/%d in the response", p.Topic, p.Partition)
		}
		first = p
	}
	return published, err
}

// recordCommit records that a partition was committed. It returns 1 if it has let the sink publish
// that. If the sink was reopened since the flush, it has dropped the records, and the next round
// completes the plan.
func (f *flusher) recordCommit(p *Partition, at commitPoint) (published int) {
	held := p.holds(at.flushPoint)
	if at.planned && held {
		f.env.Sink.Publish(p.TopicPartition, at.commit) // before p may adopt another position
		published = 1
	}
	p.recordCommit(at)
	switch {
	case at.planned && !held:
		p.decideAgain()
	case at.plan != nil: // the plan of the round may be completed
		p.work.Request()
	}
	return published
}

// sendCommit sends a commit. An error after which it may have arrived, or may still arrive, is
// recorded.
func (f *flusher) sendCommit(req *sarama.OffsetCommitRequest, sent map[*Partition]commitPoint) (*sarama.OffsetCommitResponse, error) {
	coordinator, err := f.env.Client.Coordinator(f.group)
	if err != nil {
		return nil, err
	}
	if f.planned {
		if ok, err := coordinator.Connected(); !ok { // nothing is sent
			return nil, cmp.Or(err, error(sarama.ErrNotConnected))
		}
	}
	resp, err := coordinator.CommitOffset(req)
	switch {
	case err == nil:
		return resp, nil
	case f.planned:
		f.unconfirmed = sent
	default:
		f.commits.lost = true
	}
	_ = f.env.Client.RefreshCoordinator(f.group)
	return nil, err
}

// ErrCommitLost is the cause with which a generation ends after a commit of a sink that publishes
// by plan got no response, and was not in force when the committed offsets were read. It may still
// arrive while the member has the same id, and would then replace a later commit. So the member
// leaves the group, and joins it with another id. The same applies to a commit that was sent again
// after an error response: what is in force may be its first copy, and the second may still arrive.
var ErrCommitLost = errors.New("a commit got no response, and may still arrive")

// confirm finds out whether a commit without a response is in force. Until then, nothing else is
// committed or published. It returns nil if there is no such commit.
func (f *flusher) confirm() error {
	switch {
	case f.unconfirmed == nil:
		return nil
	case f.commitLost:
		return ErrCommitLost
	}
	claims := make(map[string][]int32)
	for p := range f.unconfirmed {
		claims[p.Topic] = append(claims[p.Topic], p.Partition)
	}
	committed, err := f.offsets.Fetch(claims)
	if err != nil {
		return fmt.Errorf("commit offsets of group %s: find out whether a commit without a response is in force: %w", f.group, err)
	}
	for p, at := range f.unconfirmed {
		now := committed[p.TopicPartition]
		if !now.ByAgent || now.Meta.Nonce != at.meta.Nonce || f.resent[p] == at.meta.Nonce {
			f.env.Log.Warn("a commit got no response and may still arrive; leaving and rejoining the group", logkey.Topic, p.Topic, logkey.Partition, p.Partition,
				logkey.Offset, at.commit.Next, logkey.Committed, now.Offset)
			f.commitLost = true
			f.abandon(ErrCommitLost)
			return ErrCommitLost
		}
	}
	for p, at := range f.unconfirmed {
		f.recordCommit(p, at)
	}
	f.unconfirmed = nil
	return nil
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
