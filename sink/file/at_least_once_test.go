package file

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
)

// TestAtLeastOnceCrashAtEveryCall crashes before each call, with each kind of loss. After
// the restart, the files contain what a flush has covered, and can be read to their ends.
func TestAtLeastOnceCrashAtEveryCall(t *testing.T) {
	for _, compression := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		for _, rotate := range []*sink.Rotate{nil, {Size: 150}} {
			t.Run(fmt.Sprintf("%s/rotate=%v", compression, rotate != nil), func(t *testing.T) {
				t.Parallel()
				for _, l := range disktest.Losses {
					for at := 1; ; at++ {
						m := disktest.NewMemoryFS()
						m.StopAt = at
						spec := fileSpec("/d/out.log")
						spec.File.Compression, spec.File.Rotate = compression, rotate
						flushed, err := atLeastOnceRun(t, spec, m)
						if err == nil {
							break
						}
						if !errors.Is(err, disktest.ErrDied) {
							t.Fatal(err)
						}
						checkAtLeastOnce(t, spec, m.Crash(l), flushed, fmt.Sprintf("%s, call %d", l.Name, at))
					}
				}
			})
		}
	}
}

func atLeastOnceRun(t *testing.T, spec sink.Spec, m *disktest.MemoryFS) (flushed int, err error) {
	s, err := openWith(t.Context(), spec, testOptions{FS: m, Group: "g", pool: writer.NewPool(limits.NewBudget(10)), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	n := 0
	for i := range 30 {
		k := 1 + i%7
		if err := write(t.Context(), s, records(0, n, k)); err != nil {
			return flushed, err
		}
		n += k
		if i%3 == 2 {
			if err := s.Flush(t.Context(), false); err != nil {
				return flushed, err
			}
			flushed = n
		}
	}
	return flushed, s.Close(false)
}

func checkAtLeastOnce(t *testing.T, spec sink.Spec, m *disktest.MemoryFS, flushed int, what string) {
	t.Helper()
	s, err := openWith(t.Context(), spec, testOptions{FS: m, Group: "g", pool: writer.NewPool(limits.NewBudget(10)), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	mustWrite(t, s, records(0, flushed, 5))
	mustClose(t, s)
	var all strings.Builder
	for _, name := range m.FileNames() {
		if isCheckpoint(name) {
			continue
		}
		data := m.Files["/d/"+name].Data
		c, _ := compress.Sniff(strings.NewReader(string(data)))
		all.WriteString(unpack(t, c, data)) // to its end
	}
	for i := range flushed + 5 {
		if !strings.Contains(all.String(), value(0, i)+"\n") {
			t.Fatalf("%s: %s is lost; files %q", what, value(0, i), m.FileNames())
		}
	}
}

// TestZerosAfterFramesAreTruncated checks that zeros after synced frames are truncated,
// which a power loss may leave: file systems write the length of a file before its data.
// Committed frames before the zeros stay.
func TestZerosAfterFramesAreTruncated(t *testing.T) {
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		for _, checkpoint := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, checkpoint=%v", c, checkpoint), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out.log")
				spec := fileSpec(path)
				spec.File.Compression = c
				s := mustOpen(t, spec, nil)
				for i := range 5 {
					mustWrite(t, s, records(0, i*25, 25))
					mustFlush(t, s)
				}
				abandon(t, s)
				writeFile(t, path, readFile(t, path)+strings.Repeat("\x00", 500))
				if !checkpoint {
					if err := os.Remove(path + filename.CheckpointSuffix); err != nil {
						t.Fatal(err)
					}
				}
				s = mustOpen(t, spec, nil)
				mustWrite(t, s, records(0, 125, 1))
				mustClose(t, s)
				if c == sink.Uncompressed && !checkpoint { // the file may not be ours, so it stays as it is
					return
				}
				equal(t, contents(t, path), want(0, 0, 126))
			})
		}
	}
}

// TestAtLeastOnceWithoutLocks checks that a file system without locks is written after one
// warning, and that exactly_once names the alternatives.
func TestAtLeastOnceWithoutLocks(t *testing.T) {
	for _, no := range []error{syscall.ENOLCK, syscall.ENOSYS, syscall.EOPNOTSUPP} {
		t.Run(no.Error(), func(t *testing.T) {
			fsys := disktest.NewFaultFS()
			fsys.SetFault(func(op, _ string) error {
				if op == "lock" {
					return no
				}
				return nil
			})
			var log strings.Builder
			spec := fileSpec(filepath.Join(t.TempDir(), "{partition}.log"))
			spec.File.Rotate = &sink.Rotate{Size: 15}
			s, err := openWith(t.Context(), spec, testOptions{FS: fsys, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				mustWrite(t, s, records(0, i, 1))
				mustWrite(t, s, records(1, i, 1))
			}
			mustClose(t, s)
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings, want 1:\n%s", n, log.String())
			}
			spec.File.Delivery = sink.ExactlyOnce
			s, err = openWith(t.Context(), spec, testOptions{FS: fsys})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, nil); err == nil || !strings.Contains(err.Error(), "delivery: at_least_once") {
				t.Errorf("got %v, want the next step", err)
			}
			mustClose(t, s)
		})
	}
}

// TestAtLeastOnceWithoutRenames checks that files grow, after one warning, if they cannot be
// renamed.
func TestAtLeastOnceWithoutRenames(t *testing.T) {
	fsys := disktest.NewFaultFS()
	fsys.SetFault(func(op, _ string) error {
		if op == "rename" {
			return errors.ErrUnsupported
		}
		return nil
	})
	var log strings.Builder
	path := filepath.Join(t.TempDir(), "out.log")
	spec := fileSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 15}
	s, err := openWith(t.Context(), spec, testOptions{FS: fsys, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		mustWrite(t, s, records(0, i, 1))
	}
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 9)))
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, log.String())
	}
}

// TestDurabilityNoneSurvivesAPowerLoss checks that the file is continued, after a warning,
// if it lacks what the checkpoint says.
func TestDurabilityNoneSurvivesAPowerLoss(t *testing.T) {
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Zstd} {
		for _, l := range disktest.Losses {
			t.Run(fmt.Sprintf("%s, %s", c, l.Name), func(t *testing.T) {
				spec := exactSpec("/d/out.log")
				spec.File.Compression = c
				m := disktest.NewMemoryFS()
				s, err := openWith(t.Context(), spec, testOptions{FS: m, Group: "g", pool: writer.NewPool(limits.NewBudget(10))})
				if err != nil {
					t.Fatal(err)
				}
				mustWrite(t, s, records(0, 0, 4))
				mustFlush(t, s)
				none := *spec.File
				none.Durability = sink.None
				if err := s.Update(sink.Spec{File: &none}); err != nil {
					t.Fatal(err)
				}
				for i := range 9 {
					mustWrite(t, s, records(0, 4+4*i, 4))
					mustFlush(t, s)
				}
				// The checkpoint may reach the disk long before the data.
				m.Files["/d/out.log+checkpoint"].OnDisk = m.Files["/d/out.log+checkpoint"].Data
				m = m.Crash(l)
				for n, spec := range []sink.Spec{{File: &none}, spec} { // also after durability was changed back
					s, err = openWith(t.Context(), spec, testOptions{FS: m, Group: "g", pool: writer.NewPool(limits.NewBudget(10))})
					if err != nil {
						t.Fatal(err)
					}
					if next := resume(t, s, 0).Next; !slices.Contains([]int64{-1, 4, 40, 41}, next) {
						t.Errorf("continues at %d", next)
					}
					mustWrite(t, s, records(0, 40+n, 1))
					mustClose(t, s)
				}
				if got := unpack(t, c, m.Files["/d/out.log"].Data); !strings.HasPrefix(got, lines(want(0, 0, 4))) || !strings.HasSuffix(got, lines(want(0, 40, 2))) {
					t.Errorf("the file holds %q", got)
				}
			})
		}
	}
}
