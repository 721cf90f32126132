package fetch

import (
	"errors"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/batch"
	"kcagent/leader"
	"kcagent/retry"
)

// A Policy says where a subscription goes on when its position is out of range.
type Policy int

// The policies.
const (
	Fail     Policy = iota // Read returns an [OutOfRangeError]
	Earliest               // at the first record there is
	Latest                 // at the end
)

// A Spec says what a subscription reads.
type Spec struct {
	Topic     string
	Partition int32
	// Offset is the first to deliver. sarama.OffsetOldest and OffsetNewest are
	// looked up. The first Read returns without records, once it is known that the
	// position is good; if paused, once the position is known.
	Offset int64
	// Epoch is the leader epoch of the last record that was consumed before Offset. A
	// known one lets the leader detect that its log was truncated meanwhile.
	Epoch leader.Epoch
	// Time, if it is not zero and Offset is negative, begins at the first record
	// that is not older, or at the end if there is none.
	Time time.Time
	// ReadCommitted leaves out aborted and undecided transactions.
	ReadCommitted bool
	// MaxBytes is how much of the partition one answer may bring; a single batch
	// of records that is larger arrives still.
	MaxBytes int
	// OnOutOfRange is what happens when the position is no longer, or not yet,
	// in the partition.
	OnOutOfRange Policy
	// Paused begins with a pause.
	Paused bool

	// Reset, if not nil, is called with each jump that OnOutOfRange made out of range,
	// Truncated with each that it made in a truncated log. Changed, if not nil, is
	// called when LastError may have changed. All are called without a lock, from the
	// fetcher's goroutines, and must not block; two calls may come in any order, so
	// Changed looks at LastError.
	Reset     func(OutOfRangeError)
	Truncated func(TruncatedError)
	Changed   func()
}

// ErrClosed is what Read returns after Close.
var ErrClosed = errors.New("subscription is closed")

// lookup is what a subscription has to ask its leader before it can fetch.
type lookup int

const (
	lookupNone  lookup = iota
	lookupRange        // whether the position is really out of range
	lookupStart        // where Spec.Offset or Spec.Time is
)

// A Subscription reads one partition for one consumer. Read is called by one
// goroutine at a time; the other methods are safe for concurrent use.
type Subscription struct {
	f     *Fetcher
	spec  Spec
	iso   sarama.IsolationLevel
	ready retry.Signal // something to tell to Read

	// All below is guarded by f.mu.

	seq    int // grows when what is in flight for it is no longer wanted
	paused bool
	closed bool
	fatal  error  // what Read returns
	topic  string // the id of the topic; "" if unknown

	next      int64        // the position of the consumer
	nextEpoch leader.Epoch // of the last record before next
	announce  bool         // next was confirmed, looked up or reset, and Read has to report it
	reset     bool         // it was reset
	jumped    bool         // so was what the last Take said
	placed    bool         // it was once
	pos       int64        // where the next request begins: behind what is queued
	posEpoch  leader.Epoch // of the last record before pos
	taken     leader.Epoch // of the last record before what the last Take returned
	checked   leader.Epoch // of the leader that confirmed posEpoch, see check
	want      lookup
	queue     []*queuedPart

	reading  bool      // Read waits
	busy     bool      // Read works on a part
	moved    bool      // drop came while busy: Read says where to go on
	eager    bool      // the consumer comes back soon: fetch ahead
	returned time.Time // when Read returned last

	place // in the agenda of the broker

	near
	broker   *broker // the one asked: the leader or a replica; nil at first
	epoch    int32   // of the leader
	lost     bool    // the leader is to be looked up
	routeAt  time.Time
	inFlight bool
	retryAt  time.Time
	tries    int
	served   uint64    // the answer that last brought something: the lowest is first
	gotAt    time.Time // when that was
	polled   time.Time // when it was last in a request
	answered time.Time // when a broker last said something of it

	needs     int64     // memory for large batches that the next batch needs; 0 if none is known
	lackSince time.Time // when others held that memory first

	ask    int     // bytes to ask for; grows to spec.MaxBytes
	ratio  float64 // memory that an answer needs, per byte asked for; 0 if unknown
	alone  bool    // to be asked for alone: in a request with others something could not be read
	missed int     // answers in a row that had nothing although there was something
	void   bool    // one of them was such an answer in which it came first

	highWater, stable int64 // -1: unknown

	failure     error
	failedSince time.Time
	shown       bool
}

const (
	// firstAsk is what a partition is asked for first. How much memory its
	// records need is known when they are decoded.
	firstAsk = 64 << 10
	// guessedRatio is that of a partition of which nothing is known.
	guessedRatio = 4
)

// Subscribe begins to read a partition. It never blocks.
func (f *Fetcher) Subscribe(spec Spec) *Subscription {
	spec.MaxBytes = max(spec.MaxBytes, 1)
	s := &Subscription{
		f: f, spec: spec, ready: retry.NewSignal(), next: spec.Offset, pos: spec.Offset, paused: spec.Paused,
		nextEpoch: spec.Epoch, posEpoch: spec.Epoch,
		epoch: -1, highWater: -1, stable: -1, ask: min(firstAsk, spec.MaxBytes), lost: true,
	}
	if spec.ReadCommitted {
		s.iso = sarama.ReadCommitted
	}
	if spec.Offset < 0 {
		s.want = lookupStart
	}
	s.announce = s.paused && spec.Offset >= 0
	s.placed = s.announce
	f.o.Pin.Finalize()
	_, s.topic = f.metadata.Identity(spec.Topic) // before s is added: what is learned from now on applies to it
	f.mu.Lock()
	f.served++
	s.served, s.polled, s.answered = f.served, time.Now(), time.Now()
	f.subs[s], f.lost[s] = struct{}{}, struct{}{}
	f.readers.add(s)
	f.mu.Unlock()
	f.metadata.Wake()
	return s
}

// Pause takes the partition out of the requests. When it returns, nothing more
// is delivered before Resume, but by a Read that is at it already. What was
// queued is dropped, to be fetched again.
func (s *Subscription) Pause() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if !s.paused {
		s.paused = true
		s.drop(s.next)
		if !s.placed && s.next >= 0 {
			s.announce, s.placed = true, true
		}
		s.ready.Set()
	}
}

// Resume ends a pause, at the record after the last delivered. The metadata is asked
// for first: no fetch has told that the topic was deleted and made anew meanwhile,
// and in the new one the position means nothing.
func (s *Subscription) Resume() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.paused {
		s.paused = false
		s.lose(time.Now())
		s.ready.Set()
	}
}

// Rewind makes offset the next to deliver, and epoch the leader epoch of the last record
// before it: a consumer calls it if it could not store the records. It must not be called
// during Read. Nothing is fetched ahead until the consumer waits again, which may take long
// if its sink fails.
func (s *Subscription) Rewind(offset int64, epoch leader.Epoch) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.eager, s.nextEpoch = false, epoch
	s.drop(offset)
	s.wakeLane()
}

// Retry takes an [OutOfRangeError] or a [TruncatedError] back and looks again.
func (s *Subscription) Retry() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.fatal != nil {
		// It is shown until the leader has answered.
		s.failure, s.shown = s.fatal, true
		s.fatal, s.want = nil, lookupRange
		s.touch()
		s.wakeLane()
	}
}

// SetMaxBytes changes Spec.MaxBytes, from the next request on.
func (s *Subscription) SetMaxBytes(n int) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.spec.MaxBytes = max(n, 1)
	s.ask = min(s.ask, s.spec.MaxBytes)
}

// Close ends the subscription. Nothing is delivered after it, and a blocked
// Read returns [ErrClosed].
func (s *Subscription) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.drop(s.next)
	s.leave()
	delete(s.f.subs, s)
	delete(s.f.lost, s)
	s.f.readers.remove(s)
	s.ready.Set()
}

// drop discards what is queued and in flight, and continues at offset, which nextEpoch
// belongs to.
func (s *Subscription) drop(offset int64) {
	s.seq++
	s.touch()
	s.inFlight, s.needs = false, 0
	s.moved = s.busy
	for _, p := range s.queue {
		s.f.unref(p.frame)
	}
	s.queue, s.pos, s.next, s.posEpoch = nil, offset, offset, s.nextEpoch
	if offset < 0 {
		s.want = lookupStart
	}
}

// end is where the records end that the subscription may see; -1 if unknown.
func (s *Subscription) end() int64 {
	if s.iso == sarama.ReadCommitted && s.stable >= 0 {
		return min(s.stable, s.highWater)
	}
	return s.highWater
}

// behind reports that there are records to fetch, or that nobody knows.
func (s *Subscription) behind() bool {
	end := s.end()
	return !s.drained && (end < 0 || s.pos < end)
}

// asked is how much to ask for, and how much memory that is likely to need.
func (s *Subscription) asked() (bytes, memory int64) {
	bytes = int64(s.ask)
	ratio := s.ratio
	if ratio == 0 {
		ratio = guessedRatio
	}
	return bytes, int64(float64(bytes) * ratio)
}

// learn takes in what an answer was like.
func (s *Subscription) learn(c *batch.Content) {
	if c.WireBytes >= int64(s.ask)/2 && !c.Deferred {
		s.ask = min(s.ask*2, s.spec.MaxBytes)
	}
	if now := float64(c.MemoryBytes) / float64(max(c.DecodedBytes, 1)); c.DecodedBytes > 1024 || s.ratio == 0 || c.Deferred {
		s.ratio = max(now, s.ratio*0.9+now*0.1, 1) // up at once, down slowly
	}
}

// HighWaterMark is the offset after the partition's last record, -1 if it is
// not known yet. It stays fresh while the subscription is paused.
func (s *Subscription) HighWaterMark() int64 {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.highWater
}

// End is the offset up to which the subscription may read: the high-water mark,
// or under read_committed the last stable offset, before which every
// transaction has ended. It is -1 if it is not known yet.
func (s *Subscription) End() int64 {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.end()
}

// LastError says what keeps the partition from being fetched: nil if its last
// request succeeded, or if the trouble is young and of a kind that ends by
// itself.
func (s *Subscription) LastError() error {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.fatal != nil {
		return s.fatal
	}
	if s.shown {
		return s.failure
	}
	return nil
}
