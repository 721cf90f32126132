package sink

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
)

// A storm is a random history of one file: writes and flushes, other people's
// renames, faults of the disk, edits of the configuration, deaths of the process
// and of the machine.
type storm struct {
	*testing.T
	random  *rand.Rand
	fs      *memoryFS
	spec    *FileSpec
	sink    Sink
	at      [crashPartitions]int // written so far
	flushed [crashPartitions]int // by a flush that was good
	moved   int
	history []string
}

func (s *storm) note(format string, args ...any) {
	s.history = append(s.history, fmt.Sprintf(format, args...))
}

// open opens the sink, again and again while the disk fails, and goes on where
// it stands.
func (s *storm) open() {
	for {
		out, err := Open(s.Context(), Spec{File: s.spec}, Options{FS: s.fs, Group: "g", Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.sink = out
			break
		}
		s.expected(err)
		s.calm()
	}
	for p := range s.at {
		place, err := s.sink.(Resumer).Resume(s.Context(), TopicPartition{"orders", int32(p)}, Identity{})
		if err != nil {
			s.Fatalf("%v\n%q", err, s.history)
		}
		if max(0, int(place.Next)) < s.flushed[p] {
			s.Fatalf("partition %d stands at %d, and a flush covered %d\n%q", p, place.Next, s.flushed[p], s.history)
		}
		s.at[p] = max(0, int(place.Next))
	}
}

func (s *storm) calm() { s.fs.fault = nil }

// expected fails the test on an error that nobody caused.
func (s *storm) expected(err error) {
	if err != nil && !errors.Is(err, errDied) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) {
		s.Fatalf("%v\n%q", err, s.history)
	}
}

func (s *storm) reopen() {
	s.expected(s.sink.Close())
	s.open()
}

func (s *storm) step() {
	switch n := s.random.IntN(100); {
	case n < 55:
		p := s.random.IntN(crashPartitions)
		count := 1 + s.random.IntN(20)
		err := write(s.Context(), s.sink, records(int32(p), s.at[p], count))
		if err == nil {
			s.at[p] += count
		} else if s.expected(err); errors.Is(err, ErrLost) {
			s.reopen()
		}
		s.note("write %d %v", p, err)
	case n < 75:
		at := s.at
		err := s.sink.Flush(s.Context())
		s.note("flush %v", err)
		if err == nil {
			s.flushed = at
		} else if s.expected(err); errors.Is(err, ErrLost) {
			s.reopen()
		}
	case n < 80 && s.fs.names[s.spec.Path] != nil:
		s.moved++
		create := s.random.IntN(2) == 0
		fault := s.fs.fault
		s.calm()
		_ = s.fs.Rename(s.spec.Path, fmt.Sprintf("%s.%d", s.spec.Path, s.moved))
		if create {
			_, _ = s.fs.OpenFile(s.spec.Path, 0o100, 0o600) // O_CREATE
		}
		s.fs.fault = fault
		s.note("rename %v", create)
	case n < 86:
		spec := *s.spec
		spec.Compression = []Compression{Uncompressed, Gzip, Zstd}[s.random.IntN(3)]
		spec.Rotate = []*Rotate{nil, {Size: 100}, {Size: 500}}[s.random.IntN(3)]
		s.spec = &spec
		if err := s.sink.Update(Spec{File: s.spec}); err != nil {
			s.Fatal(err)
		}
		s.note("update %s %v", spec.Compression, spec.Rotate)
	case n < 91:
		err := []error{syscall.ENOSPC, syscall.EIO}[s.random.IntN(2)]
		odds := 1 + s.random.IntN(4)
		s.fs.fault = func() error {
			if s.random.IntN(odds) == 0 {
				return err
			}
			return nil
		}
		s.note("fault %v 1/%d", err, odds)
	case n < 95:
		s.calm()
		s.note("calm")
	case n < 98:
		l := losses[s.random.IntN(len(losses))]
		s.note("crash: %s", l.name)
		s.fs = s.fs.crash(l)
		s.open()
	default:
		s.note("reopen")
		s.reopen()
	}
}

// check demands each record once; within a file in order.
func (s *storm) check() {
	count := map[string]int{}
	for _, path := range slices.Sorted(maps.Keys(s.fs.names)) {
		if reserved(path) {
			continue
		}
		data := s.fs.names[path].data
		c, err := sniff(strings.NewReader(string(data)))
		if err != nil {
			s.Fatal(err)
		}
		var last [crashPartitions]string
		for _, v := range values(s.T, Raw, unpack(s.T, c, data)) {
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
		s.Fatalf("after %q\nfiles %q", s.history, slices.Sorted(maps.Keys(s.fs.names)))
	}
}

func TestStorm(t *testing.T) {
	for seed := range uint64(400) {
		s := &storm{T: t, random: rand.New(rand.NewPCG(seed, 7)), fs: newMemoryFS(), spec: exactSpec("/d/out.log").File}
		s.note("seed %d", seed)
		s.open()
		for range 120 {
			s.step()
		}
		s.calm()
		if err := s.sink.Close(); err != nil {
			s.expected(err)
			if errors.Is(err, ErrLost) {
				continue
			}
			t.Fatalf("%v\n%q", err, s.history)
		}
		s.check()
	}
}
