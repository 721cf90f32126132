package limits

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// How the memory limit of the process is divided: a quarter for what is fetched
// ordinarily, half for large batches. The rest is for the agent itself and for
// garbage; an eighth of the limit is for the buffers of consumers.
const (
	fetchShare  = 4
	largeShare  = 2
	bufferShare = 8
)

// leastBuffer is the smallest buffer of a consumer: smaller ones cost too many writes.
const leastBuffer = 8 << 10

// DefaultMaxBatch is the default of limits.max_batch.
const DefaultMaxBatch = 128 << 20

// patience is how long a caller of Acquire keeps its place before later ones.
const patience = 500 * time.Millisecond

// Memory divides the memory for records between the fetchers of all clusters. The memory
// for large batches is common to all of them: a batch that does not fit into the memory of
// a request has to acquire it, and is read later if others hold it. The zero value has no
// limit and the default size of a batch. All methods are safe for concurrent use, and
// none waits, except Collect.
type Memory struct {
	limit    atomic.Int64 // of the process; 0 is none
	maxBatch atomic.Int64 // limits.max_batch; 0 is the default
	wanted   atomic.Int64 // by all shares
	buffers  atomic.Int64 // that consumers may hold

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

// SetLimit sets the memory limit of the process; 0 is none.
func (m *Memory) SetLimit(n int64) { m.limit.Store(n) }

// SetMaxBatch sets limits.max_batch; 0 is the default.
func (m *Memory) SetMaxBatch(n int64) { m.maxBatch.Store(n) }

// MaxBatch is limits.max_batch.
func (m *Memory) MaxBatch() int64 {
	if n := m.maxBatch.Load(); n > 0 {
		return n
	}
	return DefaultMaxBatch
}

// SetBuffers sets how many buffers all consumers together may hold at a time.
func (m *Memory) SetBuffers(n int) { m.buffers.Store(int64(n)) }

// Buffer is how large a buffer of a consumer should be: most, or less where the memory
// limit does not allow that for all of them.
func (m *Memory) Buffer(most int) int {
	limit, n := m.Limit(), m.buffers.Load()
	if limit == 0 || n == 0 {
		return most
	}
	return int(min(int64(most), max(leastBuffer, limit/bufferShare/n)))
}

// Limit is the memory limit of the process; 0 if there is none.
func (m *Memory) Limit() int64 { return m.limit.Load() }

// Large is how much memory there is for large batches. Without a memory limit it is
// enough for a batch of limits.max_batch both compressed and decompressed.
func (m *Memory) Large() int64 {
	n := 2 * m.MaxBatch()
	if limit := m.Limit(); limit > 0 {
		n = min(n, limit/largeShare)
	}
	return n
}

// Acquire takes n bytes of the memory for large batches; false if others hold too much of
// it, or have waited for longer. The caller asks again after a moment. who identifies it.
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
		case now.Sub(w.seen) > patience:
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

// Release gives back n bytes that Acquire took. The bytes become garbage.
func (m *Memory) Release(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.garbage += n
	if m.used < 0 {
		panic("limits: more memory was released than acquired")
	}
}

// Used is how much is acquired.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Collect is called before memory that was acquired is allocated. If the garbage of former
// large batches and what is in use now are more than there may be, it collects the garbage
// first, and gives it back to the system: the runtime would only begin to do so after the
// allocation, and small objects in the freed memory would prevent the next batch from using
// it.
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

// A Share is one fetcher's part of the memory for what is fetched ordinarily.
type Share struct {
	m       *Memory
	wanted  atomic.Int64
	squeeze chan struct{}
}

// Join returns a share of size 0.
func (m *Memory) Join() *Share { return &Share{m: m, squeeze: make(chan struct{}, 1)} }

// Want sets how much the fetcher would use; 0 gives the share back.
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

// Limit is how much the fetcher may use: all that it wants, or the same part of it as the
// others, where all together want more than the memory limit of the process allows.
func (s *Share) Limit() int64 {
	want, all, limit := s.wanted.Load(), s.m.wanted.Load(), s.m.Limit()/fetchShare
	if limit == 0 || all <= limit {
		return want
	}
	return int64(float64(want) * float64(limit) / float64(all))
}

// Squeezed receives when a batch waits for memory for large batches: the fetcher then drops
// large batches that its consumers do not read.
func (s *Share) Squeezed() <-chan struct{} { return s.squeeze }
