package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/dial"
	"kcagent/fetch/partition"
	"kcagent/fetch/wire"
	"kcagent/leader"
)

// A lookupJob looks positions up: where partitions begin and end, and whether the leader has the
// last record before a position.
type lookupJob struct {
	subs   []participant
	times  []int64           // timestamps to look up, for each of subs
	epochs []wire.EpochQuery // for those of subs whose epoch is known
	iso    sarama.IsolationLevel
}

func (j *lookupJob) participants() []participant { return j.subs }
func (j *lookupJob) release()                    {}

// planLookups collects subscriptions that need a lookup, with one isolation level, and one timestamp
// for each partition. The others follow with the next job.
func (l *lane) planLookups(now time.Time) job {
	j := &lookupJob{}
	times := make(map[wire.TopicPartition]int64)
	for _, s := range l.b.agenda.lookup {
		timestamp, iso := s.startQuery()
		if len(j.subs) == 0 {
			j.iso = iso
		}
		key := s.topicPartition()
		if other, taken := times[key]; iso != j.iso || taken && other != timestamp {
			continue
		}
		times[key] = timestamp
		j.subs = append(j.subs, addToRequest(s, now))
		j.times = append(j.times, timestamp)
		if s.cursor.Lookup == partition.LookupRange && s.cursor.FetchEpoch.Known() {
			j.epochs = append(j.epochs, wire.EpochQuery{TopicPartition: key, Current: s.route.leaderEpoch, Epoch: s.cursor.FetchEpoch})
		}
	}
	return j
}

// startQuery returns the timestamp to look up, and the isolation level of the lookup. The level
// matters only for a reader of committed records that starts at the end, which for it is the last
// stable offset.
func (s *Subscription) startQuery() (int64, sarama.IsolationLevel) {
	switch {
	case s.cursor.Lookup == partition.LookupRange:
		return sarama.OffsetOldest, sarama.ReadUncommitted
	case !s.spec.Time.IsZero():
		return s.spec.Time.UnixMilli(), sarama.ReadUncommitted
	case s.spec.Offset == sarama.OffsetNewest:
		return sarama.OffsetNewest, s.iso
	}
	return sarama.OffsetOldest, sarama.ReadUncommitted
}

// send implements job.
func (j *lookupJob) send(l *lane) error {
	first, second := l.conn.NewOffsetRequest(j.iso), l.conn.NewOffsetRequest(j.iso)
	for i, p := range j.subs {
		first.AddBlock(p.spec.Topic, p.spec.Partition, j.times[i], 1)
		second.AddBlock(p.spec.Topic, p.spec.Partition, sarama.OffsetNewest, 1)
	}
	starts, err := l.listOffsets(first)
	if err != nil {
		return err
	}
	ends, err := l.listOffsets(second)
	if err != nil {
		return err
	}
	epochs, err := l.epochEnds(j.epochs)
	if err != nil {
		return err
	}
	var later callbacks
	defer func() { later.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, p := range j.subs {
		if !p.finish() {
			continue
		}
		start, err := offsetOf(starts, p.Subscription)
		var end int64
		if err == nil {
			end, err = offsetOf(ends, p.Subscription)
		}
		if err != nil {
			p.handleError(err, &later)
			continue
		}
		e, asked := epochs[p.topicPartition()]
		switch asked = asked && p.cursor.Lookup == partition.LookupRange && e.Of == p.cursor.FetchEpoch; {
		case asked && e.Err != nil:
			p.handleError(e.Err, &later)
		case asked && p.applyTruncation(e, start, end, &later):
			p.foundEnd(j.iso, end)
		default:
			p.applyOffsets(start, end, &later)
			p.foundEnd(j.iso, end)
		}
	}
	return nil
}

// listOffsets sends one ListOffsets request.
func (l *lane) listOffsets(req *sarama.OffsetRequest) (*sarama.OffsetResponse, error) {
	resp, err := l.conn.Offsets(req)
	if err != nil {
		return nil, l.annotate("list offsets", err)
	}
	return resp, nil
}

// annotate adds to an error of the connection what failed, and the broker. Other errors become a
// [dial.ResponseError]. The broker may reject the credentials before any request, when the session
// of a login has ended.
func (l *lane) annotate(what string, err error) error {
	if !wire.IsConnectionError(err) && !wire.LoginRejected(err) {
		return dial.ResponseError{Err: err}
	}
	return fmt.Errorf("%s: broker %s: %w", what, l.conn.Addr(), err)
}

// offsetOf returns the offset for the partition of s in a response.
func offsetOf(resp *sarama.OffsetResponse, s *Subscription) (int64, error) {
	b := resp.GetBlock(s.spec.Topic, s.spec.Partition)
	switch {
	case b == nil:
		return 0, sarama.ErrIncompleteResponse
	case b.Err != sarama.ErrNoError:
		return 0, b.Err
	case len(b.Offsets) > 0:
		return b.Offsets[0], nil
	}
	return b.Offset, nil
}

// handleError handles an error that the broker reports for the partition of s.
func (s *Subscription) handleError(err error, later *callbacks) {
	now := time.Now()
	later.add(s.fail(fmt.Errorf("fetch %s/%d: %w", s.spec.Topic, s.spec.Partition, err), severe(err), now))
	if code, ok := err.(sarama.KError); ok && fixedByMetadata(code) {
		s.lookUpLeader(now)
		return
	}
	s.request.retryAt = now.Add(backoff(s.health.Failures - 1))
	s.touch()
}

// applyOffsets applies the result of a lookup. start is where the log begins, or the offset of
// Spec.Time, and end is where the log ends.
func (s *Subscription) applyOffsets(start, end int64, later *callbacks) {
	later.add(s.recover())
	s.request.answeredAt = time.Now()
	kind := s.cursor.Lookup
	s.cursor.Lookup = partition.LookupNone
	s.touch()
	if kind == partition.LookupStart {
		if start < 0 { // no record is as new as Spec.Time
			start = end
		}
		s.jumpTo(start, leader.Unknown, later)
		s.cursor.HighWater = max(s.cursor.HighWater, end)
		return
	}
	if s.cursor.FetchOffset >= start && s.cursor.FetchOffset <= end {
		// It was out of range only for a moment, for example on a leader that has just been
		// elected.
		s.request.retryAt = time.Now().Add(backoff(0))
		s.signal(later) // Pause may have confirmed the position meanwhile
		return
	}
	e := partition.OutOfRangeError{Topic: s.spec.Topic, Partition: s.spec.Partition, Offset: s.cursor.FetchOffset, Start: start, End: end}
	switch s.spec.OnOutOfRange {
	case partition.Earliest:
		s.jumpTo(start, leader.Unknown, later)
	case partition.Latest:
		s.jumpTo(end, leader.Unknown, later)
	default:
		s.fatal = &e
		s.signal(later)
		later.add(s.spec.Changed)
		return
	}
	s.cursor.HighWater, s.cursor.Reset = end, true
	if s.spec.Reset != nil {
		later.add(func() { s.spec.Reset(e) })
	}
}

// applyTruncation applies the result of a lookup with the end of the epoch of the position. It
// returns false if the log was not truncated. See [partition.Cursor.Truncation].
func (s *Subscription) applyTruncation(e wire.EpochEnd, start, end int64, later *callbacks) bool {
	t, epoch := s.cursor.Truncation(e, start, end, s.spec.OnOutOfRange)
	if t == nil {
		return false
	}
	t.Topic, t.Partition, t.Leader = s.spec.Topic, s.spec.Partition, leader.NewEpoch(s.route.leaderEpoch)
	s.cursor.Lookup, s.request.answeredAt = partition.LookupNone, time.Now()
	if t.To < 0 {
		s.fatal = t
		s.signal(later)
		later.add(s.spec.Changed)
		return true
	}
	later.add(s.recover())
	s.jumpTo(t.To, epoch, later)
	s.cursor.Reset, s.cursor.CheckedBy, s.cursor.HighWater = true, t.Leader, end
	if s.spec.Truncated != nil {
		later.add(func() { s.spec.Truncated(*t) })
	}
	return true
}

// foundEnd records that a lookup with the isolation level iso reported the end of the partition.
func (s *Subscription) foundEnd(iso sarama.IsolationLevel, end int64) {
	if iso != s.iso {
		return
	}
	s.cursor.EndAt, s.cursor.HighWater = time.Now(), max(s.cursor.HighWater, end)
	if iso == sarama.ReadCommitted {
		s.cursor.LastStable = end
	}
}

// jumpTo continues at another offset. epoch is that of the last record before it.
func (s *Subscription) jumpTo(to int64, epoch leader.Epoch, later *callbacks) {
	s.cursor.Jump(to, epoch)
	s.signal(later)
	s.wakeLane()
}

// An endsJob looks up the ends of partitions that are in no fetch, because their consumers are
// paused or do not read, so that their lag stays known.
type endsJob struct {
	subs []*Subscription
	iso  sarama.IsolationLevel
}

func (j *endsJob) participants() []participant { return nil }
func (j *endsJob) release()                    {}

// lookUpLeaders looks up the leaders of the job after the broker could not be reached. No fetch
// finds out whether paused partitions have other leaders.
func (j *endsJob) lookUpLeaders(b *broker, now time.Time) {
	for _, s := range j.subs {
		if s.route.broker == b && s.currentState(now) >= stateResting {
			s.lookUpLeader(now)
		}
	}
}

// planEnds collects the partitions of one isolation level if one of them is due. It returns nil if
// none is. It visits all partitions, and so not before one can be due.
func (l *lane) planEnds(now time.Time) job {
	if l.b.nextEndsAt.After(now) {
		return nil
	}
	j := &endsJob{iso: -1}
	oldest := now
	var atReplica []*Subscription
	for _, s := range l.b.subs {
		if s.request.sentAt.Before(oldest) && !s.request.inFlight {
			oldest = s.request.sentAt
		}
		if now.Sub(s.request.sentAt) >= l.f.endsInterval && s.state.reachable() {
			if s.onReplica() {
				atReplica = append(atReplica, s)
				continue
			}
			j.iso = s.iso
			break
		}
	}
	for _, s := range atReplica {
		s.returnToLeader(now) // a replica does not know where the partition ends
	}
	if j.iso < 0 {
		l.b.nextEndsAt = now.Add(max(l.f.endsInterval-now.Sub(oldest), l.f.endsInterval/10))
		return nil
	}
	for _, s := range l.b.subs {
		if s.iso == j.iso && !s.onReplica() && now.Sub(s.request.sentAt) >= l.f.endsInterval/2 && s.state.reachable() {
			s.request.sentAt = now
			j.subs = append(j.subs, s)
		}
	}
	return j
}

// send implements job. No consumer waits for the result, so a lookup that fails is repeated later.
func (j *endsJob) send(l *lane) error {
	req := l.conn.NewOffsetRequest(j.iso)
	for _, s := range j.subs {
		req.AddBlock(s.spec.Topic, s.spec.Partition, sarama.OffsetNewest, 1)
	}
	resp, err := l.listOffsets(req)
	if err != nil {
		return err
	}
	var later callbacks
	defer func() { later.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, s := range j.subs {
		end, err := offsetOf(resp, s)
		switch {
		case err != nil:
		case end < s.cursor.Next:
			// The log is shorter than what was consumed. No fetch finds out whether the topic
			// was recreated, so the metadata has to.
			s.lookUpLeader(time.Now())
		default:
			s.request.answeredAt = time.Now()
			s.foundEnd(j.iso, end)
			s.touch()
		}
		switch {
		case s.closed || !s.paused: // a fetch finds out whether it can be fetched
		case err != nil:
			s.handleError(err, &later)
		default:
			later.add(s.recover())
		}
	}
	return nil
}
