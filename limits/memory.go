package limits

import (
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// The shares of the memory limit of the process: a quarter is for ordinary fetches, half for
// large batches, an eighth for the buffers of consumers, a sixteenth for records that wait for a
// flush. The rest is for the agent itself and for garbage.
const (
	fetchShare   = 4
	largeShare   = 2
	bufferShare  = 8
	pendingShare = 16
)

// minBuffer is the smallest buffer of a consumer: smaller ones would cost too many writes.
const minBuffer = 8 << 10

// DefaultMaxBatch is the default of limits.max_batch.
const DefaultMaxBatch = 128 << 20

// queueTimeout is how long a caller of Acquire keeps its place in the queue without another
// call.
const queueTimeout = 500 * time.Millisecond

// Memory divides the memory for records between the fetchers of all clusters. They share
// the memory for large batches: a batch that does not fit into the memory of a request has
// to acquire it, and is read later if others hold it. The zero value has no limit and the
// default size of a batch. All methods are safe for concurrent use, and none of them blocks
// except Collect.
type Memory struct {
	limit    atomic.Int64 // of the process; 0 is none
	maxBatch atomic.Int64 // limits.max_batch; 0 is the default
	wanted   atomic.Int64 // by all shares
	buffers  atomic.Int64 // that consumers may hold at a time
	pending  atomic.Int64 // bytes of records that wait for a flush

	mu      sync.Mutex
	used    int64 // acquired
	garbage int64 // released since the last collection
	waiting []waiting
	shares  map[*Share]struct{}
}

// A waiting is a caller for which Acquire returned false.
type waiting struct {
	who  any
	seen time.Time
}

// Records is the memory for the records of this process.
var Records Memory

// SetLimit sets the memory limit of the process in bytes; 0 is none.
func (m *Memory) SetLimit(n int64) { m.limit.Store(n) }

// SetMaxBatch sets limits.max_batch in bytes; 0 is the default.
func (m *Memory) SetMaxBatch(n int64) { m.maxBatch.Store(n) }

// MaxBatch returns limits.max_batch in bytes.
func (m *Memory) MaxBatch() int64 {
	if n := m.maxBatch.Load(); n > 0 {
		return n
	}
	return DefaultMaxBatch
}

// Buffer returns the size of a consumer's buffer in bytes: most, or less if the memory limit
// does not allow that for all consumers.
func (m *Memory) Buffer(most int) int {
	limit, n := m.Limit(), m.buffers.Load()
	if limit == 0 || n == 0 {
		return most
	}
	return int(min(int64(most), max(minBuffer, limit/bufferShare/n)))
}

// SpareBuffers returns how many more buffers of a size in bytes the memory limit allows.
func (m *Memory) SpareBuffers(size int) int {
	limit := m.Limit()
	if limit == 0 {
		return math.MaxInt
	}
	return int(max(0, limit/bufferShare/int64(size)-m.buffers.Load()))
}

// A BufferCount is how many buffers one generation of a consumer may hold at a time. Its methods
// are safe for concurrent use.
type BufferCount struct {
	m      *Memory
	mu     sync.Mutex
	n      int
	closed bool
}

// CountBuffers returns a new count, which is 0. Once it was set, the caller must close it.
func (m *Memory) CountBuffers() *BufferCount { return &BufferCount{m: m} }

// Set sets the count. It does nothing after Close.
func (c *BufferCount) Set(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.m.buffers.Add(int64(n - c.n))
		c.n = n
	}
}

// Close sets the count to 0.
func (c *BufferCount) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.buffers.Add(int64(-c.n))
	c.n, c.closed = 0, true
}

// AddPending adds n bytes of buffers with records that wait for a flush; n may be negative.
func (m *Memory) AddPending(n int) { m.pending.Add(int64(n)) }

// Pending returns how many bytes of records wait for a flush.
func (m *Memory) Pending() int64 { return m.pending.Load() }

// TooManyPending reports that the memory limit does not allow more records to wait for a flush.
func (m *Memory) TooManyPending() bool {
	limit := m.Limit()
	return limit > 0 && m.pending.Load() >= limit/pendingShare
}

// Limit returns the memory limit of the process in bytes; 0 if there is none.
func (m *Memory) Limit() int64 { return m.limit.Load() }

// Large returns the memory for large batches in bytes. Without a memory limit it is enough
// for a batch of limits.max_batch, both compressed and decompressed.
func (m *Memory) Large() int64 {
	n := 2 * m.MaxBatch()
	if limit := m.Limit(); limit > 0 {
		n = min(n, limit/largeShare)
	}
	return n
}

// Acquire takes n bytes of the memory for large batches. It returns false if others hold too
// much of it, or have waited for longer; the caller then calls it again within the queue
// timeout to keep its place. who identifies the caller.
func (m *Memory) Acquire(who any, n int64) bool {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	place := -1
	alive := m.waiting[:0]
	for _, w := range m.waiting {
		switch {
		case w.who == who:
			place = len(alive)
			w.seen = now
		case now.Sub(w.seen) > queueTimeout:
			continue
		}
		alive = append(alive, w)
	}
	clear(m.waiting[len(alive):])
	m.waiting = alive
	if m.used+n <= m.Large() && (place == 0 || place < 0 && len(alive) == 0) {
		m.used += n
		if place == 0 {
			m.waiting = append(m.waiting[:0:0], m.waiting[1:]...)
		}
		return true
	}
	if place < 0 {
		m.waiting = append(m.waiting, waiting{who, now})
	}
	for s := range m.shares {
		select {
		case s.squeeze <- struct{}{}:
		default:
		}
	}
	return false
}

// Release returns n bytes that Acquire took. The bytes become garbage.
func (m *Memory) Release(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.garbage += n
	if m.used < 0 {
		panic("limits: more memory was released than acquired")
	}
}

// Used returns how many bytes are acquired.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Collect must be called before acquired memory is allocated. If the garbage of former large
// batches and the memory in use exceed the limit, it collects the garbage and returns it to
// the system. The runtime would do so only after the allocation, and small objects in the
// freed memory would prevent the next batch from using it.
func (m *Memory) Collect() {
	m.mu.Lock()
	due := m.Limit() > 0 && m.garbage > 0 && m.garbage+m.used > m.Large()
	if due {
		m.garbage = 0
	}
	m.mu.Unlock()
	if due {
		debug.FreeOSMemory()
	}
}

// A Share is the part of one fetcher of the memory for ordinary fetches.
type Share struct {
	m       *Memory
	wanted  atomic.Int64
	squeeze chan struct{}
}

// Join returns a share of size 0.
func (m *Memory) Join() *Share { return &Share{m: m, squeeze: make(chan struct{}, 1)} }

// Want sets how many bytes the fetcher would use; 0 returns the share.
func (s *Share) Want(n int64) {
	if s.wanted.Load() == n {
		return
	}
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted.Add(n - s.wanted.Swap(n))
	if m.shares == nil {
		m.shares = make(map[*Share]struct{})
	}
	m.shares[s] = struct{}{}
	if n == 0 {
		delete(m.shares, s)
	}
}

// Limit returns how many bytes the fetcher may use: all that it wants, or the same fraction
// as the others if all together want more than the memory limit allows.
func (s *Share) Limit() int64 {
	want, all, limit := s.wanted.Load(), s.m.wanted.Load(), s.m.Limit()/fetchShare
	if limit == 0 || all <= limit {
		return want
	}
	return int64(float64(want) * float64(limit) / float64(all))
}

// Squeezed returns a channel that receives when a batch waits for the memory for large
// batches. The fetcher then drops large batches that its consumers do not read.
func (s *Share) Squeezed() <-chan struct{} { return s.squeeze }
