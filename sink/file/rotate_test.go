package file

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
)

// completeFiles returns the complete files of a path, the oldest first.
func completeFiles(t *testing.T, path string) []string {
	t.Helper()
	var paths []string
	err := disk.OS{}.List(filepath.Dir(path), func(name string, _ uint64) bool {
		if base, _, ok := filename.ParseComplete(name); ok && base == filepath.Base(path) {
			paths = append(paths, filepath.Join(filepath.Dir(path), name))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

func contents(t *testing.T, paths ...string) (all []string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Stat(p); errors.Is(err, os.ErrNotExist) {
			continue // no file grows
		}
		data := []byte(readFile(t, p))
		c, err := compress.Sniff(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, values(t, sink.Raw, unpack(t, c, data))...)
	}
	return all
}

// TestRotateBySize checks that no file is larger than the size, except for one record; that
// none changes after it has its final name; and that names sort like the records.
func TestRotateBySize(t *testing.T) {
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		for _, d := range []sink.Delivery{sink.ExactlyOnce, sink.AtLeastOnce} {
			t.Run(fmt.Sprintf("%s/%s", c, d), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out.log")
				spec := exactSpec(path)
				spec.File.Delivery, spec.File.Compression, spec.File.Rotate = d, c, &sink.Rotate{Size: 100}
				s := mustOpen(t, spec, nil)
				seen := map[string]string{}
				for i := range 40 {
					mustWrite(t, s, records(0, i*3, 3))
					if i%4 == 3 {
						mustFlush(t, s)
					}
					for _, p := range completeFiles(t, path) {
						if now := readFile(t, p); seen[p] != "" && seen[p] != now {
							t.Fatalf("%s was changed after it was complete", p)
						} else {
							seen[p] = now
						}
					}
				}
				mustClose(t, s)
				done := completeFiles(t, path)
				if len(done) < 3 || !slices.IsSorted(done) {
					t.Errorf("complete files are %q", done)
				}
				equal(t, contents(t, append(done, path)...), want(0, 0, 120))
				for _, p := range done {
					if info, _ := os.Stat(p); c == sink.Uncompressed && info.Size() > 100 {
						t.Errorf("%s has %d bytes", p, info.Size())
					}
				}
			})
		}
	}
}

// TestFullFileDoesNotGrow checks that a full file that cannot be completed does not grow.
func TestFullFileDoesNotGrow(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 100}
	s := mustOpen(t, spec, fsys)
	var err error
	fsys.SetFault(fail(syscall.ENOSPC, "writeat out.log+checkpoint"))
	n := 0
	for ; err == nil && n < 100; n++ {
		err = write(t.Context(), s, records(0, n, 1))
		if n == 0 && err != nil { // not even a checkpoint could name the file
			fsys.SetFault(nil)
			mustWrite(t, s, records(0, 0, 1))
			fsys.SetFault(fail(syscall.ENOSPC, "writeat out.log+checkpoint"))
			err = nil
		}
	}
	if n != 11 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write %d: %v, want a file of ten records", n, err)
	}
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, n-1, 5))
	mustClose(t, s)
	equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, n+4))
}

// TestRotateByPeriod checks that files are completed at the full second, with or without
// records, and not while they are empty.
func TestRotateByPeriod(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Every: time.Second}
	due := make(chan struct{}, 100)
	s, err := openWith(t.Context(), spec, testOptions{Due: func() { due <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 0, 1))
	began := time.Now()
	<-due
	if now := time.Now(); now.Truncate(time.Second).Before(began.Truncate(time.Second).Add(time.Second)) {
		t.Errorf("due at %v, written at %v", now, began)
	}
	mustFlush(t, s)
	if n := len(completeFiles(t, path)); n != 1 {
		t.Errorf("%d complete files, want 1", n)
	}
	mustWrite(t, s, records(0, 1, 1))
	<-due // there is no flush, and the next record comes late
	mustWrite(t, s, records(0, 2, 1))
	mustClose(t, s)
	done := completeFiles(t, path)
	if len(done) != 2 {
		t.Fatalf("complete files %q, want 2", done)
	}
	equal(t, contents(t, done[1]), want(0, 1, 1))
	if len(due) != 0 {
		t.Error("an empty file is due")
	}
}

// TestFileOfAPastPeriodIsCompletedAfterAStart checks that the next record completes a file
// of a past hour that another process started.
func TestFileOfAPastPeriodIsCompletedAfterAStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Every: time.Hour}
	s := mustOpen(t, spec, nil)
	mustWrite(t, s, records(0, 0, 1))
	mustClose(t, s)
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, spec, nil)
	mustWrite(t, s, records(0, 1, 1))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 1, 1)))
	equal(t, contents(t, completeFiles(t, path)...), want(0, 0, 1))
}

// TestNamesSortAfterTheClockWasSetBack checks that names sort like the files after the clock
// was set back.
func TestNamesSortAfterTheClockWasSetBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.log")
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 15}
	clock := time.Now()
	open := func() sink.Sink {
		s, err := openWith(t.Context(), spec, testOptions{Group: "g", Now: func() time.Time { return clock }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	for i := range 4 {
		mustWrite(t, s, records(0, i*2, 2))
		clock = clock.Add(-time.Hour)
		if i%2 == 1 { // also over a restart
			mustClose(t, s)
			s = open()
		}
	}
	mustWrite(t, s, records(0, 8, 1))
	mustClose(t, s)
	done := completeFiles(t, path)
	if len(done) != 4 {
		t.Fatalf("complete files %q", done)
	}
	equal(t, contents(t, append(done, path)...), want(0, 0, 9))
}

// TestUpdateAppliesToTheNextRecord checks that a new compression or rotation applies from
// the next record on, in a new file, and that no file has two compressions.
func TestUpdateAppliesToTheNextRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	s := mustOpen(t, spec, nil)
	next := 0
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Zstd, sink.Gzip, sink.Gzip, sink.Uncompressed} {
		file := *spec.File
		file.Compression = c
		if err := s.Update(sink.Spec{File: &file}); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, s, records(0, next, 10))
		next += 10
		if next%20 == 0 {
			mustFlush(t, s)
		}
	}
	mustClose(t, s)
	done := completeFiles(t, path)
	if len(done) != 3 || !strings.HasSuffix(done[1], ".log.zst") || !strings.HasSuffix(done[2], ".log.gz") {
		t.Errorf("complete files %q", done)
	}
	equal(t, contents(t, append(done, path)...), want(0, 0, next))

	// A start with another compression does the same.
	spec.File.Compression = sink.Gzip
	s = mustOpen(t, spec, nil)
	mustWrite(t, s, records(0, next, 1))
	mustClose(t, s)
	equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, next+1))
	if len(completeFiles(t, path)) != 4 {
		t.Errorf("complete files %q", completeFiles(t, path))
	}
}

// A linkFS renames by a link and a removal, as on a file system whose renames may replace a
// file.
type linkFS struct{ *disktest.FaultFS }

func (f linkFS) Rename(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return f.Remove(from)
}

// TestInterruptedRenameIsFinished checks a rename that is a link and a removal. An error or
// a crash in between leaves a complete file under both names. The next attempt removes the
// first name, and no record is in two files.
func TestInterruptedRenameIsFinished(t *testing.T) {
	for _, death := range []bool{true, false} {
		t.Run(fmt.Sprintf("death=%v", death), func(t *testing.T) {
			path, fsys := filepath.Join(t.TempDir(), "out.log"), linkFS{disktest.NewFaultFS()}
			spec := exactSpec(path)
			spec.File.Rotate = &sink.Rotate{Size: 30}
			s := mustOpen(t, spec, fsys)
			mustWrite(t, s, records(0, 0, 3))
			fsys.SetFault(fail(syscall.EIO, "remove out.log"))
			for range 2 {
				if err := write(t.Context(), s, records(0, 3, 3)); !errors.Is(err, syscall.EIO) {
					t.Fatalf("got %v", err)
				}
			}
			fsys.SetFault(nil)
			if death {
				abandon(t, s)
				s = mustOpen(t, spec, fsys)
				wantNext(t, s, 0, 3)
			}
			mustWrite(t, s, records(0, 3, 2))
			mustClose(t, s)
			if n := len(completeFiles(t, path)); n != 1 {
				t.Errorf("%d complete files, want 1", n)
			}
			equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, 5))
		})
	}
}

// TestUncertainCompletionTruncatesNothing checks the case that it is unknown whether the
// checkpoint with the completed file was stored. If more records are appended to the file, a
// crash does not truncate them, also if the file was moved.
func TestUncertainCompletionTruncatesNothing(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 30}
	s := mustOpen(t, spec, fsys)
	mustWrite(t, s, records(0, 0, 2))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 2, 1)) // the file is full
	fsys.SetFault(fail(syscall.EIO, "datasync out.log+checkpoint"))
	if err := write(t.Context(), s, records(0, 3, 1)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	larger := exactSpec(path)
	larger.File.Rotate = &sink.Rotate{Size: 1000}
	if err := s.Update(larger); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 2)) // not flushed
	abandon(t, s)
	s = mustOpen(t, larger, nil)
	next := int(resume(t, s, 0).Next)
	mustWrite(t, s, records(0, next, 6-next))
	mustClose(t, s)
	equal(t, contents(t, path+".1", path), want(0, 0, 6))
}
