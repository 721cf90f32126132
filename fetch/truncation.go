package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

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

// An epochEnd is where a leader's log ends for an epoch.
type epochEnd struct {
	of     leader.Epoch // what was asked for
	epoch  leader.Epoch // the largest one of the leader that is not larger; unknown if there is none
	offset int64        // after its last record
	err    error
}

// OffsetForLeaderEpoch: consumers may send it since version 3, which needs the same
// permission as a fetch.
const (
	leastEpochs = 3
	mostEpochs  = 4
	// divergingFetch is the version of the fetch request since which the leader compares
	// epochs itself.
	divergingFetch = 12
)

// epochEnds asks the leader where its log ends for the epochs of wants. It returns nil if
// the broker is too old for the request.
func (l *lane) epochEnds(wants []*wanted) (map[position]epochEnd, error) {
	if len(wants) == 0 {
		return nil, nil
	}
	c := l.conn
	if err := c.prepare(); err != nil {
		return nil, l.describe("ask for leader epochs", err)
	}
	k, ok := c.speaks[kmsg.OffsetForLeaderEpoch]
	if !ok || k.MaxVersion < leastEpochs || k.MinVersion > mostEpochs || !c.conf.Version.IsAtLeast(sarama.V2_3_0_0) {
		return nil, nil
	}
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version, req.ReplicaID = min(mostEpochs, k.MaxVersion), -1
	if !c.conf.Version.IsAtLeast(sarama.V2_8_0_0) {
		req.Version = leastEpochs
	}
	asked := make(map[position]leader.Epoch, len(wants))
	for _, w := range wants {
		if _, twice := asked[w.key()]; twice {
			continue // in a later request
		}
		asked[w.key()] = w.last
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = w.partition, w.epoch, w.last.Kafka()
		last := len(req.Topics) - 1
		if last < 0 || req.Topics[last].Topic != w.topic {
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = w.topic
			req.Topics = append(req.Topics, t)
			last++
		}
		req.Topics[last].Partitions = append(req.Topics[last].Partitions, p)
	}
	id, err := c.send(req)
	if err != nil {
		return nil, l.describe("ask for leader epochs", err)
	}
	resp := &kmsg.OffsetForLeaderEpochResponse{Version: req.Version}
	fr, err := c.answer(id, resp, nil)
	if err != nil {
		return nil, l.describe("ask for leader epochs", err)
	}
	defer fr.release()
	ends := make(map[position]epochEnd, len(wants))
	for key, of := range asked {
		ends[key] = epochEnd{of: of, err: sarama.ErrIncompleteResponse}
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			key := position{t.Topic, p.Partition, 0}
			e := epochEnd{of: asked[key], epoch: leader.NewEpoch(p.LeaderEpoch), offset: p.EndOffset}
			if p.ErrorCode != 0 {
				e.err = sarama.KError(p.ErrorCode)
			}
			ends[key] = e
		}
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
	if err := l.conn.prepare(); err != nil {
		return false, l.describe("fetch", err)
	}
	if version, err := l.conn.fetchVersion(); err != nil || version >= divergingFetch {
		return false, err
	}
	var wants []*wanted
	for _, w := range j.wants {
		if w.unchecked {
			wants = append(wants, w)
		}
	}
	ends, err := l.epochEnds(wants)
	if err != nil || ends == nil {
		return false, err
	}
	var told calls
	defer func() { told.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, w := range j.wants {
		e, asked := ends[w.key()]
		for _, m := range w.subs {
			if !m.current() || !asked || m.posEpoch != w.last {
				continue
			}
			switch m.answered = time.Now(); {
			case e.err != nil:
				m.refused(e.err, &told)
			case e.confirms(m.Subscription):
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
	e := epochEnd{of: s.posEpoch, epoch: leader.NewEpoch(b.DivergingEpoch.Epoch), offset: b.DivergingEpoch.EndOffset}
	if !e.confirms(s) {
		s.want = lookupRange
		s.lose(now) // first: whether it is still the same topic
		return
	}
	// The leader has lost the epoch, with the last record of it: by compaction, for
	// example. Its log before the position is what was consumed.
	if s.posEpoch = e.epoch; e.epoch.Kafka() >= e.of.Kafka() {
		s.posEpoch = leader.Unknown // the same answer would follow
	}
	s.wakeLane()
}

// confirms reports that the leader has what was consumed before the position of s. Like
// Java's consumer it compares the offsets alone: a smaller epoch that ends behind the
// position is no truncation.
func (e epochEnd) confirms(s *Subscription) bool { return e.epoch.Known() && e.offset >= s.pos }

// truncated handles what the leader reports: where its log starts, where the epoch of the
// position ends, and where its log ends. If it was truncated, s continues at the diverging
// offset, or fails, by the policy. If that offset is unknown, or was deleted since, s
// continues at the start or end, by the policy. resolve handles a position before the
// start: records that retention deleted were not truncated.
func (s *Subscription) truncated(e epochEnd, start, end int64, told *calls) bool {
	if !e.epoch.Known() {
		e.offset = -1
	}
	if e.confirms(s) || s.pos < start || e.offset < 0 && s.pos > end {
		return false
	}
	s.want, s.answered = lookupNone, time.Now()
	t := TruncatedError{
		Topic: s.spec.Topic, Partition: s.spec.Partition, Offset: s.pos, Epoch: s.posEpoch,
		Diverging: e.offset, Leader: leader.NewEpoch(s.epoch), To: e.offset,
	}
	epoch := e.epoch
	if e.offset < start {
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
