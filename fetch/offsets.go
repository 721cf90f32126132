package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
	"kcagent/leader"
)

// An OutOfRangeError reports that a position is not in the partition.
type OutOfRangeError struct {
	Topic      string
	Partition  int32
	Offset     int64 // the position
	Start, End int64 // what the partition holds, End not included
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %s/%d is out of range, the partition holds [%d, %d), and on_offset_out_of_range is fail: "+
		"choose earliest or latest, or stop the consumer and reset the group's offsets",
		e.Offset, e.Topic, e.Partition, e.Start, e.End)
}

// Unwrap makes the error one of Kafka's.
func (e *OutOfRangeError) Unwrap() error { return sarama.ErrOffsetOutOfRange }

// A lookupJob asks a leader where partitions begin and end.
type lookupJob struct {
	subs  []member
	times []int64 // of each
	ends  []wire.EpochQuery
	iso   sarama.IsolationLevel
}

func (j *lookupJob) members() []member { return j.subs }
func (j *lookupJob) done()             {}

// lookup collects those that need a position, of one isolation level and one
// time for each partition; the others come with the next.
func (l *lane) lookup(now time.Time) job {
	j := &lookupJob{}
	times := make(map[wire.TopicPartition]int64)
	for _, s := range l.b.unsure {
		at, iso := s.first()
		if len(j.subs) == 0 {
			j.iso = iso
		}
		key := s.topicPartition()
		if other, taken := times[key]; iso != j.iso || taken && other != at {
			continue
		}
		times[key] = at
		j.subs = append(j.subs, enlist(s, now))
		j.times = append(j.times, at)
		if s.want == lookupRange && s.posEpoch.Known() {
			j.ends = append(j.ends, wire.EpochQuery{TopicPartition: key, Current: s.epoch, Epoch: s.posEpoch})
		}
	}
	return j
}

// first is the time to ask for first, and the isolation level of the question:
// only where a reader of committed records begins at the end, that is the last
// stable offset.
func (s *Subscription) first() (int64, sarama.IsolationLevel) {
	switch {
	case s.want == lookupRange:
		return sarama.OffsetOldest, sarama.ReadUncommitted
	case !s.spec.Time.IsZero():
		return s.spec.Time.UnixMilli(), sarama.ReadUncommitted
	case s.spec.Offset == sarama.OffsetNewest:
		return sarama.OffsetNewest, s.iso
	}
	return sarama.OffsetOldest, sarama.ReadUncommitted
}

// ask implements job.
func (j *lookupJob) ask(l *lane) error {
	first, second := l.conn.NewOffsetRequest(j.iso), l.conn.NewOffsetRequest(j.iso)
	for i, m := range j.subs {
		first.AddBlock(m.spec.Topic, m.spec.Partition, j.times[i], 1)
		second.AddBlock(m.spec.Topic, m.spec.Partition, sarama.OffsetNewest, 1)
	}
	starts, err := l.offsets(first)
	if err != nil {
		return err
	}
	ends, err := l.offsets(second)
	if err != nil {
		return err
	}
	epochs, err := l.epochEnds(j.ends)
	if err != nil {
		return err
	}
	var told calls
	defer func() { told.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, m := range j.subs {
		if !m.current() {
			continue
		}
		start, err := offsetOf(starts, m.Subscription)
		var end int64
		if err == nil {
			end, err = offsetOf(ends, m.Subscription)
		}
		if err != nil {
			m.refused(err, &told)
			continue
		}
		e, asked := epochs[m.topicPartition()]
		switch asked = asked && m.want == lookupRange && e.Of == m.posEpoch; {
		case asked && e.Err != nil:
			m.refused(e.Err, &told)
		case asked && m.truncated(e, start, end, &told):
		default:
			m.resolve(start, end, &told)
		}
	}
	return nil
}

// offsets sends one request.
func (l *lane) offsets(req *sarama.OffsetRequest) (*sarama.OffsetResponse, error) {
	resp, err := l.conn.Offsets(req)
	if err != nil {
		return nil, l.describe("ask for offsets", err)
	}
	return resp, nil
}

// describe says what failed with which broker.
func (l *lane) describe(what string, err error) error {
	if !wire.IsConnectionError(err) && !wire.LoginRejected(err) { // a session may end, and not be renewed, before any request
		return dial.ResponseError{Err: err}
	}
	return fmt.Errorf("%s: broker %s: %w", what, l.conn.Addr(), err)
}

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

// refused takes in that the leader did not answer for s.
func (s *Subscription) refused(err error, told *calls) {
	now := time.Now()
	wrapped := fmt.Errorf("fetch %s/%d: %w", s.spec.Topic, s.spec.Partition, err)
	told.add(s.fail(wrapped, grave(err), now))
	if code, ok := err.(sarama.KError); ok && moved(code) {
		s.lose(now)
		return
	}
	s.retryAt = now.Add(backoff(s.tries - 1))
	s.touch()
}

// resolve takes in where the partition begins, or where Spec.Time is, and where
// it ends.
func (s *Subscription) resolve(start, end int64, told *calls) {
	told.add(s.recover())
	s.answered = time.Now()
	want := s.want
	s.want = lookupNone
	s.touch()
	if want == lookupStart {
		if start < 0 { // no record is that young
			start = end
		}
		s.jump(start, leader.Unknown)
		s.highWater = max(s.highWater, end)
		return
	}
	if s.pos >= start && s.pos <= end {
		// It was out of range only for a moment, as on a leader that has just
		// been elected.
		s.retryAt = time.Now().Add(backoff(0))
		return
	}
	e := OutOfRangeError{s.spec.Topic, s.spec.Partition, s.pos, start, end}
	switch s.spec.OnOutOfRange {
	case Earliest:
		s.jump(start, leader.Unknown)
	case Latest:
		s.jump(end, leader.Unknown)
	default:
		s.fatal = &e
		s.ready.Set()
		told.add(s.spec.Changed)
		return
	}
	s.highWater, s.reset = end, true
	if s.spec.Reset != nil {
		told.add(func() { s.spec.Reset(e) })
	}
}

// jump continues at another offset, which Read reports. epoch is that of the last record
// before it.
func (s *Subscription) jump(to int64, epoch leader.Epoch) {
	s.next, s.pos, s.announce, s.placed = to, to, true, true
	s.nextEpoch, s.posEpoch = epoch, epoch
	s.ready.Set()
	s.wakeLane()
}

// An endsJob asks where partitions end that are in no request, because their
// consumers are paused, or stuck, so that their lag is known.
type endsJob struct {
	subs []*Subscription
	iso  sarama.IsolationLevel
}

func (j *endsJob) members() []member { return nil }
func (j *endsJob) done()             {}

// lose has the leaders looked up anew after the broker could not be reached: no
// request for records will find out about those that are paused.
func (j *endsJob) lose(b *broker, now time.Time) {
	for _, s := range j.subs {
		if s.broker == b && s.askable() {
			s.lose(now)
		}
	}
}

// ends collects all of one isolation level if one is due. It looks through all
// partitions, and so not before one can be due.
func (l *lane) ends(now time.Time) job {
	if l.b.endsAt.After(now) {
		return nil
	}
	j := &endsJob{iso: -1}
	oldest := now
	var leave []*Subscription
	for _, s := range l.b.subs {
		if s.polled.Before(oldest) && !s.inFlight {
			oldest = s.polled
		}
		if now.Sub(s.polled) >= l.f.endsEvery && s.askable() && !s.retryAt.After(now) {
			if s.follows() {
				leave = append(leave, s)
				continue
			}
			j.iso = s.iso
			break
		}
	}
	for _, s := range leave {
		s.toLeader(now) // a replica does not know where the partition ends
	}
	if j.iso < 0 {
		l.b.endsAt = now.Add(max(l.f.endsEvery-now.Sub(oldest), l.f.endsEvery/10))
		return nil
	}
	for _, s := range l.b.subs {
		if s.iso == j.iso && !s.follows() && now.Sub(s.polled) >= l.f.endsEvery/2 && s.askable() && !s.retryAt.After(now) {
			s.polled = now
			j.subs = append(j.subs, s)
		}
	}
	return j
}

// ask implements job. Nobody waits for the answer: what fails is asked again
// later.
func (j *endsJob) ask(l *lane) error {
	req := l.conn.NewOffsetRequest(j.iso)
	for _, s := range j.subs {
		req.AddBlock(s.spec.Topic, s.spec.Partition, sarama.OffsetNewest, 1)
	}
	resp, err := l.offsets(req)
	if err != nil {
		return err
	}
	var told calls
	defer func() { told.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, s := range j.subs {
		end, err := offsetOf(resp, s)
		if err == nil {
			s.highWater, s.answered = max(s.highWater, end), time.Now()
			s.touch()
			if s.iso == sarama.ReadCommitted {
				s.stable = end
			}
		}
		switch {
		case s.closed || !s.paused: // whether it can be fetched is for a fetch to tell
		case err != nil:
			s.refused(err, &told)
		default:
			told.add(s.recover())
		}
	}
	return nil
}
