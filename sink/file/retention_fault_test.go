package file

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/retention"
)

// A failingListFS fails the next lists of folders.
type failingListFS struct {
	disk.OS
	fails atomic.Int32
}

func (f *failingListFS) List(dir string, each func(name string, inode uint64) bool) error {
	if f.fails.Add(-1) >= 0 {
		return &os.PathError{Op: "list", Path: dir, Err: syscall.EIO}
	}
	return f.OS.List(dir, each)
}

// TestFailedListingIsRepeated checks that a failed list is repeated: the complete files of
// an unassigned partition are known from the folder only.
func TestFailedListingIsRepeated(t *testing.T) {
	clk, fsys := newClock(), &failingListFS{}
	path := filepath.Join(t.TempDir(), "7.log")
	spec := exactSpec(filepath.Join(filepath.Dir(path), "{partition}.log"))
	spec.File.Rotate = &sink.Rotate{Size: 30}
	open := func() sink.Sink {
		s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g", Now: clk.now, FS: fsys})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	resume(t, s, 7)
	for i := range 5 {
		mustWrite(t, s, records(7, 3*i, 3))
		clk.add(time.Second)
	}
	mustClose(t, s)
	fsys.fails.Store(1)
	spec.File.Rotate = &sink.Rotate{Size: 30, Keep: 1}
	s = open()
	for range 2 {
		clk.add(retention.MaxTimer)
		runKeeper(s)
	}
	if n := len(completeFiles(t, path)); fsys.fails.Load() > 0 || n != 1 {
		t.Errorf("%d complete files, want 1; %d lists have not failed yet", n, fsys.fails.Load())
	}
	mustClose(t, s)
}

// TestFailedCompletionIsRepeated checks that the file of an unassigned partition is
// completed although the first attempt failed.
func TestFailedCompletionIsRepeated(t *testing.T) {
	clk, fsys := newClock(), disktest.NewFaultFS()
	path := filepath.Join(t.TempDir(), "7.log")
	spec := exactSpec(filepath.Join(filepath.Dir(path), "{partition}.log"))
	spec.File.Rotate = &sink.Rotate{Every: time.Hour}
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g", Now: clk.now, FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	resume(t, s, 7)
	mustWrite(t, s, records(7, 0, 3))
	mustFlush(t, s)
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	fsys.SetFault(fail(syscall.ENOSPC, "writeat 7.log+checkpoint"))
	clk.add(time.Hour)
	runKeeper(s)
	if n := len(completeFiles(t, path)); n != 0 {
		t.Fatalf("%d complete files on a full disk", n)
	}
	fsys.SetFault(nil)
	clk.add(retention.MaxTimer)
	runKeeper(s)
	if n := len(completeFiles(t, path)); n != 1 {
		t.Errorf("%d complete files, want 1", n)
	}
	mustClose(t, s)
}
