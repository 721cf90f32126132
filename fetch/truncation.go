package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/wire"
	"kcagent/leader"
)

// A log is truncated when a replica that lacks records becomes the leader (an unclean
// leader election), or when all replicas lost their last records. Offsets alone do not
// show that: the new leader may have written other records at the offsets that were
// consumed. So each position has the leader epoch of the last record before it (KIP-320).
// The leader compares it with its own epochs: a fetch request names it (KIP-595), and
// before Kafka 2.7, OffsetForLeaderEpoch asks for it whenever the leader epoch changes.
// Before Kafka 2.3, consumers may not ask, and truncation is not detected.

// A TruncatedError reports that the leader's log does not hold the records that were
// consumed before a position.
type TruncatedError struct {
	Topic     string
	Partition int32
	Offset    int64        // the position
	Epoch     leader.Epoch // of the last record before it
	// Diverging is where the leader's log diverges from what was consumed, as far as the
	// leader knows; -1 if it has no epoch in common.
	Diverging int64
	Leader    leader.Epoch // of the leader
	To        int64        // where the subscription continues; -1 if nowhere, by [Fail]
}

func (e *TruncatedError) Error() string {
	at := fmt.Sprintf("diverges at offset %d from what was consumed up to offset %d", e.Diverging, e.Offset)
	then := fmt.Sprintf("to continue at offset %d", e.Diverging)
	if e.Diverging < 0 {
		at = fmt.Sprintf("has no leader epoch in common with what was consumed up to offset %d", e.Offset)
		then = "to continue at the start or end of the log"
	}
	return fmt.Sprintf("log of %s/%d was truncated: it %s in leader epoch %s, the leader epoch is now %s, and on_offset_out_of_range is fail: "+
		"choose earliest or latest %s, or stop the consumer and reset the group's offsets",
		e.Topic, e.Partition, at, e.Epoch, e.Leader, then)
}

// Unwrap makes the error one of Kafka's.
func (e *TruncatedError) Unwrap() error { return sarama.ErrOffsetOutOfRange }

// EpochQuery asks for the end of the epoch of the last record before the position.
func (w *wanted) epochQuery() wire.EpochQuery {
	return wire.EpochQuery{TopicPartition: w.TopicPartition, Current: w.epoch, Epoch: w.last}
}

// epochEnds asks the leader where its log ends for epochs. It returns nil if the broker is too
// old for the request.
func (l *lane) epochEnds(queries []wire.EpochQuery) (map[wire.TopicPartition]wire.EpochEnd, error) {
	ends, err := l.conn.EpochEnds(queries)
	if err != nil {
		return nil, l.describe("ask for leader epochs", err)
	}
	return ends, nil
}

// unchecked reports that no leader of this epoch has confirmed the position.
func (s *Subscription) unchecked() bool {
	return s.posEpoch.Known() && s.checked != leader.NewEpoch(s.epoch)
}

// check asks a leader that is too old to compare epochs in fetches for those of the
// positions that it has not confirmed. If it did, done is true, and the records are
// asked for in another request.
func (j *fetchJob) check(l *lane) (done bool, err error) {
	switch compares, err := l.conn.ComparesEpochs(); {
	case err != nil:
		return false, l.describe("fetch", err)
	case compares:
		return false, nil
	}
	var queries []wire.EpochQuery
	for _, w := range j.wants {
		if w.unchecked {
			queries = append(queries, w.epochQuery())
		}
	}
	ends, err := l.epochEnds(queries)
	if err != nil || ends == nil {
		return false, err
	}
	var told calls
	defer func() { told.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, w := range j.wants {
		e, asked := ends[w.TopicPartition]
		for _, m := range w.subs {
			if !m.current() || !asked || m.posEpoch != w.last {
				continue
			}
			switch m.answered = time.Now(); {
			case e.Err != nil:
				m.refused(e.Err, &told)
			case m.confirmedBy(e):
				m.checked = leader.NewEpoch(w.epoch)
			default:
				m.want = lookupRange
			}
		}
	}
	return true, nil
}

// diverge handles the answer to a fetch in which the leader names an epoch at which its log
// diverges.
func (s *Subscription) diverge(b *kmsg.FetchResponseTopicPartition, now time.Time) {
	s.retryAt, s.highWater, s.stable, s.answered = time.Time{}, b.HighWatermark, b.LastStableOffset, now
	e := wire.EpochEnd{Of: s.posEpoch, Epoch: leader.NewEpoch(b.DivergingEpoch.Epoch), Offset: b.DivergingEpoch.EndOffset}
	if !s.confirmedBy(e) {
		s.want = lookupRange
		s.lose(now) // first: whether it is still the same topic
		return
	}
	// The leader has lost the epoch, with the last record of it: by compaction, for
	// example. Its log before the position is what was consumed.
	if s.posEpoch = e.Epoch; e.Epoch.Kafka() >= e.Of.Kafka() {
		s.posEpoch = leader.Unknown // the same answer would follow
	}
	s.wakeLane()
}

// confirmedBy reports that the leader has what was consumed before the position of s. Like
// Java's consumer it compares the offsets alone: a smaller epoch that ends behind the
// position is no truncation.
func (s *Subscription) confirmedBy(e wire.EpochEnd) bool { return e.Epoch.Known() && e.Offset >= s.pos }

// truncated handles what the leader reports: where its log starts, where the epoch of the
// position ends, and where its log ends. If it was truncated, s continues at the diverging
// offset, or fails, by the policy. If that offset is unknown, or was deleted since, s
// continues at the start or end, by the policy. resolve handles a position before the
// start: records that retention deleted were not truncated.
func (s *Subscription) truncated(e wire.EpochEnd, start, end int64, told *calls) bool {
	if !e.Epoch.Known() {
		e.Offset = -1
	}
	if s.confirmedBy(e) || s.pos < start || e.Offset < 0 && s.pos > end {
		return false
	}
	s.want, s.answered = lookupNone, time.Now()
	t := TruncatedError{
		Topic: s.spec.Topic, Partition: s.spec.Partition, Offset: s.pos, Epoch: s.posEpoch,
		Diverging: e.Offset, Leader: leader.NewEpoch(s.epoch), To: e.Offset,
	}
	epoch := e.Epoch
	if e.Offset < start {
		if epoch, t.To = leader.Unknown, start; s.spec.OnOutOfRange == Latest {
			t.To = end
		}
	}
	if s.spec.OnOutOfRange == Fail {
		t.To = -1
		s.fatal = &t
		s.ready.Set()
		told.add(s.spec.Changed)
		return true
	}
	told.add(s.recover())
	s.jump(t.To, epoch)
	s.reset, s.checked, s.highWater = true, t.Leader, end
	if s.spec.Truncated != nil {
		told.add(func() { s.spec.Truncated(t) })
	}
	return true
}
