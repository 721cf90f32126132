package file

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/writer"
)

// A concurrentHistory runs writes, flushes, updates, faults and parking at the same time.
type concurrentHistory struct {
	*testing.T
	fs     *disktest.MemoryFS
	spec   *sink.FileSpec
	sink   sink.Sink
	budget *limits.Budget
	pool   *writer.Pool
	odds   atomic.Int32 // one of so many calls fails; 0: none does
	at     [historyPartitions]atomic.Int64
}

func newConcurrentHistory(t *testing.T, pattern string, asking bool) *concurrentHistory {
	s := &concurrentHistory{T: t, fs: disktest.NewMemoryFS(), spec: exactSpec(pattern).File, budget: limits.NewBudget(20)}
	s.pool = writer.NewPool(s.budget)
	s.fs.FaultReads = asking
	s.fs.Fault = func() error {
		if odds := s.odds.Load(); odds > 0 && rand.IntN(int(odds)) == 0 {
			return syscall.EIO
		}
		return nil
	}
	return s
}

// open opens the sink, and tries again while calls fail.
func (s *concurrentHistory) open() {
	for {
		out, err := openWith(s.Context(), sink.Spec{File: s.spec}, testOptions{
			FS: s.fs, Group: "g", Consumer: "c", Log: slog.New(slog.DiscardHandler), pool: s.pool,
		})
		if err == nil {
			s.sink = out
			return
		}
		s.expected(err)
	}
}

// expected fails the test on an error that no fault has caused.
func (s *concurrentHistory) expected(err error) {
	if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, sink.ErrReopen) {
		s.Error(err)
	}
}

func (s *concurrentHistory) resume(p int) {
	for {
		l, err := s.sink.Resume(s.Context(), sink.TopicPartition{Topic: "orders", Partition: int32(p)}, nil)
		if err == nil {
			s.at[p].Store(max(0, l.Next))
			return
		}
		s.expected(err)
		time.Sleep(10 * time.Microsecond)
	}
}

func (s *concurrentHistory) write(p int) {
	n := 1 + rand.IntN(10)
	err := write(s.Context(), s.sink, records(int32(p), int(s.at[p].Load()), n))
	s.expected(err)
	switch {
	case err == nil:
		s.at[p].Add(int64(n))
	case errors.Is(err, sink.ErrReopen):
		s.resume(p)
	}
}

func (s *concurrentHistory) update() {
	spec := *s.spec
	spec.Rotate = []*sink.Rotate{nil, {Size: 100}, {Size: 500}, {Every: time.Hour}}[rand.IntN(4)]
	spec.Compression = []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd}[rand.IntN(3)]
	s.expected(s.sink.Update(sink.Spec{File: &spec}))
}

// generation runs everything concurrently for a while, and then flushes without faults.
func (s *concurrentHistory) generation() {
	stop, all := make(chan struct{}), sync.WaitGroup{}
	loop := func(pause time.Duration, do func()) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(pause):
					do()
				}
			}
		})
	}
	for p := range s.at {
		s.resume(p)
		loop(20*time.Microsecond, func() { s.write(p) })
	}
	loop(50*time.Microsecond, func() { s.expected(s.sink.Flush(s.Context(), false)) })
	loop(70*time.Microsecond, func() { s.pool.ParkOne() })
	loop(300*time.Microsecond, s.sink.(*fileSink).keeper.CompleteDue)
	loop(500*time.Microsecond, func() { s.odds.Store([]int32{0, 0, 3, 10, 40}[rand.IntN(5)]) })
	loop(2*time.Millisecond, s.update)
	time.Sleep(25 * time.Millisecond)
	close(stop)
	all.Wait()
	s.odds.Store(0)
	if err := s.sink.Flush(s.Context(), false); err != nil { // a file has lost what was not flushed
		s.expected(err)
		for p := range s.at {
			s.resume(p)
		}
		if err := s.sink.Flush(s.Context(), false); err != nil {
			s.Error(err)
		}
	}
}

// TestConcurrentRandomHistory checks that no flushed record is lost, that each record is in
// the files once, and that no descriptor is leaked.
func TestConcurrentRandomHistory(t *testing.T) {
	for _, pattern := range []string{"/d/out.log", "/d/{partition}.log"} {
		for _, asking := range []bool{false, true} {
			runConcurrentHistory(t, pattern, asking)
		}
	}
}

// TestConcurrentRandomHistoryOnEightCores is TestConcurrentRandomHistory with eight cores.
func TestConcurrentRandomHistoryOnEightCores(t *testing.T) {
	useEightCores(t)
	for _, pattern := range []string{"/d/out.log", "/d/{partition}.log"} {
		runConcurrentHistory(t, pattern, false)
	}
}

func runConcurrentHistory(t *testing.T, pattern string, asking bool) {
	s := newConcurrentHistory(t, pattern, asking)
	s.open()
	for n := range 4 {
		s.generation()
		var flushed [historyPartitions]int64
		for p := range flushed {
			flushed[p] = s.at[p].Load()
		}
		if n%2 == 0 {
			s.expected(s.sink.Release())
		} else {
			s.expected(s.sink.Close(n == 3))
			s.open()
		}
		for p := range flushed {
			if s.resume(p); s.at[p].Load() != flushed[p] {
				t.Errorf("partition %d continues at %d, and a flush covered %d", p, s.at[p].Load(), flushed[p])
			}
		}
	}
	if err := s.sink.Close(true); err != nil {
		t.Error(err)
	}
	if !s.budget.Acquire(20) {
		t.Error("descriptors are still in use")
	}
	after := history{T: t, fs: s.fs, removed: map[string]int{}}
	for p := range s.at {
		after.at[p] = int(s.at[p].Load())
	}
	after.check()
}
