package fetch

import (
	"errors"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/partition"
	"kcagent/leader"
)

// A Spec says what a subscription reads.
type Spec struct {
	Topic     string
	Partition int32
	// Offset is the first offset to read. sarama.OffsetOldest and sarama.OffsetNewest are
	// looked up. The first Take has no records: it reports the position, once a broker has
	// confirmed that it is in range, or, if Paused, once it is known.
	Offset int64
	// Epoch is the leader epoch of the last record that was consumed before Offset. If it is
	// known, the leader detects that its log was truncated since then.
	Epoch leader.Epoch
	// Time, if it is not zero and Offset is negative, selects the first record that is not
	// older, or the end of the log if there is none.
	Time time.Time
	// ReadCommitted leaves out records of aborted and open transactions.
	ReadCommitted bool
	// MaxBytes limits how many bytes of the partition one response may have. A single record
	// batch that is larger is received all the same.
	MaxBytes int
	// OnOutOfRange says where to continue when the position is not in the log.
	OnOutOfRange partition.Policy
	// Paused makes the subscription start paused.
	Paused bool

	// Reset is called when OnOutOfRange has moved a position that was out of range, and
	// Truncated when the log was truncated and the position was moved. Changed is called when
	// LastError may have changed. Each of them may be nil. They are called without a lock,
	// from goroutines of the fetcher, and must not block. Two calls may come in any order, so
	// Changed must read LastError.
	Reset     func(partition.OutOfRangeError)
	Truncated func(partition.TruncatedError)
	Changed   func()
}

// ErrClosed is the error of Take after Close.
var ErrClosed = errors.New("subscription is closed")

// A Subscription reads one partition for one consumer. Read, Wait, Poll and Take are called by one
// goroutine at a time. The other methods are safe for concurrent use.
type Subscription struct {
	f    *Fetcher
	spec Spec
	iso  sarama.IsolationLevel

	// f.mu guards all fields below.

	paused  bool
	closed  bool
	fatal   error  // error of Take until Retry; nil if it can continue
	topicID string // of the topic that is read; "" if it is unknown

	state  state // what the lanes of its broker can do for it, as of the last updateStates
	entry  entry // where it is in the agenda of its broker
	cursor partition.Cursor
	reader readerState
	route  route
	// request is about the requests that it takes part in.
	request requestState
	sizing  partition.Sizing
	health  partition.Health
}

// Subscribe starts to read a partition. It never blocks.
func (f *Fetcher) Subscribe(spec Spec) *Subscription {
	spec.MaxBytes = max(spec.MaxBytes, 1)
	s := &Subscription{
		f: f, spec: spec, paused: spec.Paused,
		cursor: partition.NewCursor(spec.Offset, spec.Epoch, spec.Paused),
		route:  route{leaderEpoch: -1, lost: true},
		sizing: partition.NewSizing(spec.MaxBytes),
	}
	if spec.ReadCommitted {
		s.iso = sarama.ReadCommitted
	}
	f.options.Pin.Finalize()
	// The id is read before s is added: metadata that arrives from now on is compared with it.
	_, s.topicID = f.metadata.Identity(spec.Topic)
	f.mu.Lock()
	f.responses++
	s.request.turn, s.request.answeredAt = f.responses, time.Now()
	if !s.paused { // the end of a paused one is looked up soon
		s.request.sentAt = time.Now()
	}
	f.subs[s], f.lost[s] = struct{}{}, struct{}{}
	f.byPartition.add(s)
	f.mu.Unlock()
	f.metadata.Wake()
	return s
}

// Pause takes the partition out of the requests. After it has returned, no records are
// delivered before Resume, except by a Take that was running already. Records that were
// fetched ahead are dropped, and fetched again later.
func (s *Subscription) Pause() {
	var later callbacks
	defer func() { later.run() }()
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.paused || s.closed {
		return
	}
	s.paused = true
	s.drop(s.cursor.Next)
	if !s.cursor.Confirmed && s.cursor.Next >= 0 {
		s.cursor.Report, s.cursor.Confirmed = true, true
	}
	s.signal(&later)
}

// Resume ends a pause, at the record after the last delivered one. The metadata is looked up
// first: during the pause, no fetch could report that the topic was recreated, and the position
// would mean nothing in the new topic.
func (s *Subscription) Resume() {
	var later callbacks
	defer func() { later.run() }()
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.paused && !s.closed {
		s.paused = false
		s.lookUpLeader(time.Now())
		s.signal(&later)
	}
}

// Rewind makes offset the next one to deliver, and epoch the leader epoch of the last record
// before it. A consumer calls it when it could not store the records. It must not be called
// during Take. Nothing is fetched ahead until the next Poll or Wait, which may take long if the sink
// fails.
func (s *Subscription) Rewind(offset int64, epoch leader.Epoch) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.reader.prefetch, s.cursor.NextEpoch = false, epoch
	s.drop(offset)
	s.wakeLane()
}

// Retry discards an [OutOfRangeError] or a [TruncatedError] and asks the leader again.
// LastError keeps the error until the leader has answered.
func (s *Subscription) Retry() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.fatal == nil {
		return
	}
	s.health.Err, s.health.Visible = s.fatal, true
	s.fatal, s.cursor.Lookup = nil, partition.LookupRange
	s.touch()
	s.wakeLane()
}

// SetMaxBytes changes Spec.MaxBytes, from the next request on.
func (s *Subscription) SetMaxBytes(n int) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.spec.MaxBytes = max(n, 1)
	s.sizing.Bytes = min(s.sizing.Bytes, s.spec.MaxBytes)
}

// Reconnect makes the lanes of the partition's leader reconnect, each after its request in
// flight, and makes the next metadata request use a new connection. The lanes of other
// brokers keep their connections.
func (s *Subscription) Reconnect() {
	s.f.metadata.Reconnect()
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.route.broker != nil {
		for _, l := range s.route.broker.lanes {
			l.reconnect = true
			l.wake.Set()
		}
	}
}

// Close ends the subscription. No records are delivered after it, a consumer that waits is woken,
// and Take returns [ErrClosed].
func (s *Subscription) Close() {
	var later callbacks
	defer func() { later.run() }()
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.drop(s.cursor.Next)
	s.leaveBroker()
	delete(s.f.subs, s)
	delete(s.f.lost, s)
	s.f.byPartition.remove(s)
	s.signal(&later)
}

// HighWaterMark returns the high-water mark of the partition, -1 if it is not known yet. It
// is kept up to date while the subscription is paused.
func (s *Subscription) HighWaterMark() int64 {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.cursor.HighWater
}

// LastError returns what keeps the partition from being fetched. It is nil if the last request
// succeeded, or if the error is recent and of a kind that ends by itself.
func (s *Subscription) LastError() error {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	switch {
	case s.fatal != nil:
		return s.fatal
	case s.health.Visible:
		return s.health.Err
	}
	return nil
}

// drop discards the parts that were fetched and the request in flight, and continues at
// offset, to which cursor.NextEpoch belongs.
func (s *Subscription) drop(offset int64) {
	s.touch()
	s.request.seq++
	s.request.inFlight, s.sizing.LargeBytes = false, 0
	s.reader.moved = s.reader.taking
	for _, p := range s.cursor.Queue {
		s.f.releasePart(p.Frame)
	}
	s.cursor.Queue = nil
	s.cursor.Next = offset
	s.cursor.FetchOffset, s.cursor.FetchEpoch = offset, s.cursor.NextEpoch
	if offset < 0 {
		s.cursor.Lookup = partition.LookupStart
	}
}

// fail records an error that began at since; see [partition.Health.Fail]. The caller runs the
// function that it returns once f.mu is free.
func (s *Subscription) fail(err error, severe bool, since time.Time) (changed func()) {
	if s.health.Fail(err, severe, since) {
		return s.spec.Changed
	}
	return nil
}

// recover records a successful request. The caller runs the function that it returns once f.mu is
// free.
func (s *Subscription) recover() (changed func()) {
	if s.health.Recover() {
		return s.spec.Changed
	}
	return nil
}

// A readerState is what the consumer of a subscription is doing.
type readerState struct {
	waiting    bool      // it has polled, and there was nothing to take
	ready      func()    // is called when it is to poll again; nil if it need not be called
	taking     bool      // Take works on a part
	moved      bool      // the cursor was moved during a Take, which settles where to continue
	prefetch   bool      // the consumer is likely to come back soon: fetch ahead
	returnedAt time.Time // when Take last returned
}

// A requestState is about the requests that a subscription takes part in: one at a time at
// most.
type requestState struct {
	seq        int       // grows when the response to the request in flight is no longer wanted
	inFlight   bool      // a request waits for its response
	retryAt    time.Time // no request is sent before, after an error
	turn       uint64    // number of the response that last brought records; the lowest comes first
	recordsAt  time.Time // when that response arrived
	sentAt     time.Time // when it was last in a request
	answeredAt time.Time // when a broker last answered for it
}

// Progress is a snapshot of how a subscription makes progress.
type Progress struct {
	// Waiting says that the consumer waits for records, and that no pause and no visible error
	// explains why there are none.
	Waiting  bool
	Next     int64     // position of the consumer; negative if it is not known yet
	End      int64     // as last reported, see [Outlook]; -1 if that is not known yet
	Answered time.Time // when a broker last answered for the partition
	Broker   string    // address of the broker that it is fetched from; "" if it is not known
	InFlight bool      // a request waits for its response
	// LastEvent is when something last happened that explains why there are no records yet: the
	// broker sends a long response, or records for other subscriptions, a replica is on trial,
	// or a quota or lack of memory delays requests. It is in the future if such a cause has a
	// known end.
	LastEvent time.Time
}

// Progress returns how the subscription makes progress now.
func (s *Subscription) Progress() Progress {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	p := Progress{
		Waiting: s.reader.waiting && !s.paused && s.fatal == nil && !s.health.Visible && !s.closed,
		Next:    s.cursor.Next, End: s.cursor.End(s.iso), Answered: s.request.answeredAt, InFlight: s.request.inFlight,
	}
	if s.route.broker != nil {
		p.Broker, p.LastEvent = s.route.broker.addr, s.lastEvent()
	}
	return p
}

// lastEvent returns Progress.LastEvent. Responses for other subscriptions explain nothing any more
// once s came first in a request that brought no records.
func (s *Subscription) lastEvent() time.Time {
	b := s.route.broker
	at := b.heldBackAt
	if s.onReplica() && s.route.onTrial && s.route.leaseEnds.After(at) {
		at = s.route.leaseEnds // the leader is asked then
	}
	if s.sizing.Barren {
		return at
	}
	if b.recordsAt.After(at) {
		at = b.recordsAt
	}
	if progress := time.Unix(0, b.progressAt.Load()); progress.After(at) {
		at = progress
	}
	return at
}
