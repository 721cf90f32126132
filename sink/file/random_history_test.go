package file

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/writer"
)

// A history is a random sequence of events for the files of a sink: writes, also in pieces,
// flushes, renames and removals by other programs, faults of the disk, updates, rebalances,
// parked files, changes of the clock, crashes of the process and of the machine.
type history struct {
	*testing.T
	random  *rand.Rand
	fs      *disktest.MemoryFS
	spec    *sink.FileSpec
	sink    sink.Sink
	files   *writer.Pool
	clock   *clock
	at      [historyPartitions]int // written so far
	flushed [historyPartitions]int // by a successful flush
	buffer  bool                   // small chunks are buffered until the flush
	none    bool                   // durability changes, and only the process crashes
	moved   int
	removed map[string]int // flushed records in files that were removed
	history []string
}

const historyPartitions = 3

func (s *history) logf(format string, args ...any) {
	s.history = append(s.history, fmt.Sprintf(format, args...))
}

// open opens the sink, and tries again while calls fail.
func (s *history) open() {
	s.files = writer.NewPool(limits.NewBudget(10))
	if s.buffer {
		s.files.BufferFrom = 0
	}
	for {
		out, err := openWith(s.Context(), sink.Spec{File: s.spec}, testOptions{
			FS: s.fs, Group: "g", Consumer: "c", Log: slog.New(slog.DiscardHandler), Now: s.clock.now, pool: s.files,
		})
		if err == nil {
			s.sink = out
			break
		}
		s.expected(err)
		s.calm()
	}
	for p := range s.at {
		s.resume(p)
	}
}

func (s *history) resume(p int) {
	for {
		at, err := s.sink.Resume(s.Context(), sink.TopicPartition{Topic: "orders", Partition: int32(p)}, nil)
		if err != nil {
			s.expected(err)
			s.logf("resume %d %v", p, err)
			s.calm()
			continue
		}
		if max(0, int(at.Next)) < s.flushed[p] {
			s.Fatalf("partition %d continues at %d, and a flush covered %d\n%q", p, at.Next, s.flushed[p], s.history)
		}
		s.at[p] = max(0, int(at.Next))
		return
	}
}

func (s *history) calm() { s.setFault(nil) }

// setFault returns the previous fault. The goroutine of the keeper calls faults, too.
func (s *history) setFault(fault func() error) (before func() error) {
	s.fs.Mu.Lock()
	defer s.fs.Mu.Unlock()
	before, s.fs.Fault = s.fs.Fault, fault
	return before
}

// expected fails the test on an error that no fault has caused.
func (s *history) expected(err error) {
	if err != nil && !errors.Is(err, disktest.ErrDied) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) && !errors.Is(err, sink.ErrReopen) {
		s.Fatalf("%v\n%q", err, s.history)
	}
}

func (s *history) write() {
	p := s.random.IntN(historyPartitions)
	count := 1 + s.random.IntN(20)
	if s.random.IntN(8) == 0 {
		s.writeLarge(p)
		return
	}
	s.wrote(p, count, write(s.Context(), s.sink, records(int32(p), s.at[p], count)))
}

func (s *history) wrote(p, count int, err error) {
	s.logf("write %d+%d %v", p, count, err)
	s.expected(err)
	switch {
	case err == nil:
		s.at[p] += count
	case errors.Is(err, sink.ErrReopen):
		s.resume(p)
	}
}

// adopt gives a partition another lineage at its position. Long ones make the checkpoint
// outgrow its slot.
func (s *history) adopt() {
	p := s.random.IntN(historyPartitions)
	lineage := strings.Repeat("l", s.random.IntN(checkpoint.SlotSize))
	err := s.sink.Adopt(s.Context(), sink.TopicPartition{Topic: "orders", Partition: int32(p)}, "ledger", sink.Position{Next: int64(s.at[p]), Lineage: lineage})
	s.logf("adopt %d %d %v", p, len(lineage), err)
	if s.expected(err); err != nil {
		s.resume(p)
	}
}

func (s *history) flush() {
	at := s.at
	err := s.sink.Flush(s.Context(), false)
	s.logf("flush %v", err)
	s.expected(err)
	var some *sink.FlushError
	if err != nil && !errors.As(err, &some) {
		return
	}
	for p := range at {
		var failed error
		if some != nil {
			failed = some.Failed[sink.TopicPartition{Topic: "orders", Partition: int32(p)}]
		}
		switch {
		case failed == nil:
			s.flushed[p] = at[p]
		case errors.Is(failed, sink.ErrReopen):
			s.resume(p)
		}
	}
}

func (s *history) update() {
	spec := *s.spec
	spec.Compression = []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd}[s.random.IntN(3)]
	spec.Rotate = []*sink.Rotate{nil, {Size: 100}, {Size: 500}, {Every: time.Hour}}[s.random.IntN(4)]
	if s.none {
		spec.Durability = []sink.Durability{sink.Fsync, sink.None}[s.random.IntN(2)]
	}
	s.spec = &spec
	if err := s.sink.Update(sink.Spec{File: s.spec}); err != nil {
		s.Fatal(err)
	}
	s.logf("update %s %v %s", spec.Compression, spec.Rotate, spec.Durability)
}

func (s *history) fault() {
	err := []error{syscall.ENOSPC, syscall.EIO}[s.random.IntN(2)]
	odds := 1 + s.random.IntN(6)
	random := rand.New(rand.NewPCG(s.random.Uint64(), 0)) // used under the lock of the file system
	s.setFault(func() error {
		if random.IntN(odds) == 0 {
			return err
		}
		return nil
	})
	s.logf("fault %v 1/%d", err, odds)
}

func (s *history) crash() {
	l := disktest.Losses[s.random.IntN(len(disktest.Losses))]
	if s.none {
		l = disktest.Losses[0]
	}
	s.logf("crash: %s", l.Name)
	s.sink.(*fileSink).timer.Stop()
	s.sink.(*fileSink).keeper.Stop(false)
	s.fs = s.fs.Crash(l)
	s.open()
}

func (s *history) rebalance() {
	s.flush()
	s.logf("rebalance")
	s.expected(s.sink.Release())
	for p := range s.at {
		s.resume(p)
	}
}

func (s *history) step() {
	switch n := s.random.IntN(100); {
	case n < 3:
		s.adopt()
	case n < 4:
		s.remove()
	case n < 50:
		s.write()
	case n < 68:
		s.flush()
	case n < 72:
		s.rename()
	case n < 78:
		s.update()
	case n < 83:
		s.fault()
	case n < 87:
		s.calm()
		s.logf("calm")
	case n < 90:
		s.logf("park %v", s.files.ParkOne())
	case n < 92:
		s.rebalance()
	case n < 94:
		s.clock.add(time.Duration(s.random.IntN(400)-200) * time.Minute)
		s.logf("clock %v", s.clock.now())
	case n < 98:
		s.crash()
	default:
		s.logf("reopen")
		s.expected(s.sink.Close(s.random.IntN(2) == 0))
		s.open()
	}
}

// check checks that each record is there once, and in order within a file.
func (s *history) check() {
	count := maps.Clone(s.removed)
	for _, path := range slices.Sorted(maps.Keys(s.fs.Files)) {
		if isCheckpoint(path) {
			continue
		}
		data := s.fs.Files[path].Data
		c, err := compress.Sniff(strings.NewReader(string(data)))
		if err != nil {
			s.Fatal(err)
		}
		var last [historyPartitions]string
		for _, v := range values(s.T, sink.Raw, unpack(s.T, c, data)) {
			v, _ = strings.CutSuffix(v, padding)
			count[v]++
			p := int(v[1] - '0')
			if v <= last[p] {
				s.Errorf("%s follows %s in %s", v, last[p], filepath.Base(path))
			}
			last[p] = v
		}
	}
	for p := range s.at {
		for i := range s.at[p] {
			if v := value(int32(p), i); count[v] != 1 {
				s.Errorf("%s is there %d times", v, count[v])
			}
			delete(count, value(int32(p), i))
		}
	}
	if len(count) > 0 {
		s.Errorf("strange records: %v", count)
	}
	if s.Failed() {
		s.Fatalf("after %q\nfiles %q", s.history, slices.Sorted(maps.Keys(s.fs.Files)))
	}
}

// TestRandomHistory checks that each record is in the files once, in order within its
// partition and file, except records that were removed with a file.
func TestRandomHistory(t *testing.T) {
	for _, pattern := range []string{"/d/out.log", "/d/{partition}.log"} {
		for seed := range uint64(historySeeds) {
			s := &history{
				T: t, random: rand.New(rand.NewPCG(seed, 7)), fs: disktest.NewMemoryFS(), spec: exactSpec(pattern).File,
				none: seed%4 == 0, buffer: seed%3 == 0, clock: newClock(), removed: map[string]int{},
			}
			s.fs.FaultReads = seed%2 == 0
			s.logf("%s seed %d", pattern, seed)
			s.open()
			for range 120 {
				s.step()
			}
			s.calm()
			for p := range s.at { // the last lost records are fetched again
				s.resume(p)
			}
			if err := s.sink.Close(true); err != nil {
				t.Fatalf("%v\n%q", err, s.history)
			}
			s.check()
		}
	}
}

const historySeeds = 150
