package file

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
)

// fail makes the named calls fail, such as "truncate out.log".
func fail(err error, calls ...string) func(op, name string) error {
	return func(op, name string) error {
		for _, c := range calls {
			if c == op+" "+name {
				return err
			}
		}
		return nil
	}
}

// TestDiskFull: a write that does not fit leaves no byte behind and says what
// to do; once there is room, the same records go in once.
func TestDiskFull(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	for _, room := range []int64{0, 1, 25} { // nothing, a part of a record, records and a part
		fsys.SetRoom(room)
		err := write(t.Context(), s, records(0, 3, 10))
		if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "write "+path+": no space left on device") {
			t.Fatalf("got %v", err)
		}
		checkFile(t, path, lines(want(0, 0, 3)))
	}
	fsys.SetRoom(-1)
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 10))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 13)))
}

// TestQuota: a quota that is used up says what to do, as a full disk does.
func TestQuota(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	mustWrite(t, s, records(0, 0, 3))
	fsys.SetFault(fail(syscall.EDQUOT, "write out.log"))
	err := write(t.Context(), s, records(0, 3, 3))
	if !errors.Is(err, syscall.EDQUOT) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "free disk space") {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 6)))
}

// TestDiskFullLater: the same, with the fault in a later chunk.
func TestDiskFullLater(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	const n = 50_000
	fsys.SetRoom(263_000)
	if err := write(t.Context(), s, records(0, 3, n)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	checkFile(t, path, lines(want(0, 0, 3)))
	fsys.SetRoom(-1)
	mustWrite(t, s, records(0, 3, n))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 3+n)))
}

// TestFailedCut: if even the cut fails, nothing is written behind the torn
// record; the path is opened anew and cut before the next write.
func TestFailedCut(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	fsys.SetFault(fail(syscall.EIO, "truncate out.log"))
	fsys.SetRoom(15)
	if err := write(t.Context(), s, records(0, 3, 3)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	fsys.SetRoom(-1)
	if err := write(t.Context(), s, records(0, 3, 3)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("wrote behind a torn record: %v", err)
	}
	mustFlush(t, s) // what was accepted is safe all the same
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 6)))
}

// TestCutAtClose: what could not be cut off in time is cut off at the end.
func TestCutAtClose(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	fsys.SetFault(fail(syscall.EIO, "truncate out.log"))
	fsys.SetRoom(15)
	if err := write(t.Context(), s, records(0, 0, 3)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	mustClose(t, s)
	checkFile(t, path, "")
}

// TestDeadDescriptor: a descriptor that the file system no longer knows is
// replaced.
func TestDeadDescriptor(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	reopened := false
	fsys.SetFault(func(op, name string) error {
		switch {
		case name != "out.log" || reopened:
			return nil
		case op == "open":
			reopened = true
			return nil
		}
		return syscall.ESTALE
	})
	if err := write(t.Context(), s, records(0, 3, 3)); !errors.Is(err, syscall.ESTALE) {
		t.Fatalf("got %v", err)
	}
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 6)))
}

// TestDeadDescriptorAtFlush: the same, first met by a Flush.
func TestDeadDescriptorAtFlush(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	failing := true
	fsys.SetFault(func(op, name string) error {
		if name != "out.log" || !failing {
			return nil
		}
		if op == "open" {
			failing = false
			return nil
		}
		return syscall.ESTALE
	})
	if err := s.Flush(t.Context()); !errors.Is(err, syscall.ESTALE) || errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v", err)
	}
	mustFlush(t, s)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 3)))
}

// TestFailedSync: nothing is accepted after a loss, that descriptor is not
// synced again, and Close leaves what the last good Flush covered.
func TestFailedSync(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	fsys.SetFault(fail(syscall.EIO, "datasync out.log"))
	err := s.Flush(t.Context())
	if !errors.Is(err, sink.ErrReopen) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	fsys.Trace()
	if err := write(t.Context(), s, records(0, 6, 3)); !errors.Is(err, sink.ErrReopen) {
		t.Errorf("a record was accepted past the hole: %v", err)
	}
	if err := s.Flush(t.Context()); !errors.Is(err, sink.ErrReopen) {
		t.Errorf("a flush after the loss said %v", err)
	}
	equal(t, fsys.Trace(), nil)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 3)))
	// The cut is synced on a descriptor of its own.
	equal(t, fsys.Trace(), []string{"open out.log", "truncate out.log", "datasync out.log", "close out.log", "close out.log", "close out.log+checkpoint"})

	s = mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 3, 6))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 9)))
}

// TestFailedSyncOfOne: a file that could not be synced loses the records since the last
// good Flush, and no other does: all others are safe.
func TestFailedSyncOfOne(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(filepath.Join(dir, "{partition}.log")), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustWrite(t, s, records(1, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	mustWrite(t, s, records(1, 3, 3))
	mustWrite(t, s, records(2, 0, 3))
	fsys.SetFault(fail(syscall.EIO, "datasync 1.log"))
	var some *sink.FlushError
	if err := s.Flush(t.Context()); !errors.Is(err, sink.ErrReopen) || !errors.As(err, &some) || len(some.Failed) != 1 || some.Failed[sink.TopicPartition{Topic: "orders", Partition: 1}] == nil {
		t.Fatalf("got %v, want that partition 1 alone failed", err)
	}
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, 6, 3))
	if err := write(t.Context(), s, records(1, 6, 3)); !errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v, want that it has to resume", err)
	}
	if _, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 1}, nil); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(1, 3, 3))
	mustClose(t, s)
	checkFile(t, filepath.Join(dir, "0.log"), lines(want(0, 0, 9)))
	checkFile(t, filepath.Join(dir, "1.log"), lines(want(1, 0, 6)))
	checkFile(t, filepath.Join(dir, "2.log"), lines(want(2, 0, 3)))
}

// TestFailedSyncAtClose: Close tells of a loss that it meets first.
func TestFailedSyncAtClose(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	failed := false
	fsys.SetFault(func(op, _ string) error {
		if op == "datasync" && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	if err := s.Close(false); !errors.Is(err, sink.ErrReopen) {
		t.Errorf("got %v", err)
	}
	checkFile(t, path, "")
	mustClose(t, mustOpen(t, fileSpec(path), nil)) // released all the same
}

// TestOneFailsTheOtherWorks: two sinks share nothing.
func TestOneFailsTheOtherWorks(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	bad := mustOpen(t, fileSpec(filepath.Join(dir, "bad.log")), fsys)
	good := mustOpen(t, fileSpec(filepath.Join(dir, "good.log")), fsys)
	fsys.SetFault(fail(syscall.EIO, "write bad.log"))
	if err := write(t.Context(), bad, records(0, 0, 3)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	mustWrite(t, good, records(0, 0, 3))
	mustFlush(t, good)
	mustClose(t, good)
	mustClose(t, bad)
	checkFile(t, filepath.Join(dir, "good.log"), lines(want(0, 0, 3)))
}

// TestFlushesBesideFailedWrites: writes that fail in the middle are cut off while flushes
// are under way. The race detector watches both.
func TestFlushesBesideFailedWrites(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	place(t, s, 0)
	calls := 0
	fsys.SetFault(func(op, _ string) error {
		if op != "write" {
			return nil
		}
		switch calls++; calls % 3 {
		case 1:
			fsys.SetRoom(5)
		case 2:
			return syscall.ENOSPC
		default:
			fsys.SetRoom(-1)
		}
		return nil
	})
	at := 0
	var all sync.WaitGroup
	all.Go(func() {
		for range 100 {
			if write(t.Context(), s, records(0, at, 2)) == nil {
				at += 2
			}
		}
	})
	all.Go(func() {
		for range 100 {
			_ = s.Flush(t.Context())
		}
	})
	all.Wait()
	fsys.SetFault(nil)
	fsys.SetRoom(-1)
	mustClose(t, s)
	if at == 0 {
		t.Error("nothing was written")
	}
	checkFile(t, path, lines(want(0, 0, at)))
}
