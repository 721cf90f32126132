package file

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
)

// fail returns a fault that fails the named calls, such as "truncate out.log".
func fail(err error, calls ...string) func(op, name string) error {
	return func(op, name string) error {
		if slices.Contains(calls, op+" "+name) {
			return err
		}
		return nil
	}
}

// TestDiskFullKeepsNoPartOfAChunk checks that a write that does not fit leaves no byte and
// names the next step, and that the same records are written once when there is space.
func TestDiskFullKeepsNoPartOfAChunk(t *testing.T) {
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

// TestExceededQuotaNamesTheNextStep checks that an exceeded quota names the next step, as a
// full disk does.
func TestExceededQuotaNamesTheNextStep(t *testing.T) {
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

// TestDiskFullInALaterChunk checks a full disk in a later chunk.
func TestDiskFullInALaterChunk(t *testing.T) {
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

// TestFailedTruncationIsRepeated checks that nothing is written after a torn record that
// could not be truncated: the path is opened again and truncated before the next write.
func TestFailedTruncationIsRepeated(t *testing.T) {
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
		t.Fatalf("wrote after a torn record: %v", err)
	}
	mustFlush(t, s) // the accepted records are durable nevertheless
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 6)))
}

// TestCloseTruncatesATornEnd checks that Close truncates what could not be truncated before.
func TestCloseTruncatesATornEnd(t *testing.T) {
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

// TestDeadDescriptorIsReplaced checks that a descriptor that the file system does not know
// any more is replaced.
func TestDeadDescriptorIsReplaced(t *testing.T) {
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

// TestFlushReplacesADeadDescriptor checks the same if a flush detects it first.
func TestFlushReplacesADeadDescriptor(t *testing.T) {
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
	if err := s.Flush(t.Context(), false); !errors.Is(err, syscall.ESTALE) || errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v", err)
	}
	mustFlush(t, s)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 3)))
}

// TestFailedSyncLosesTheFile checks that nothing is accepted after a loss, that the
// descriptor is not synced again, and that Close leaves what the last successful flush
// covered.
func TestFailedSyncLosesTheFile(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	fsys.SetFault(fail(syscall.EIO, "datasync out.log"))
	err := s.Flush(t.Context(), false)
	if !errors.Is(err, sink.ErrReopen) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	fsys.Trace()
	if err := write(t.Context(), s, records(0, 6, 3)); !errors.Is(err, sink.ErrReopen) {
		t.Errorf("a record was accepted past the hole: %v", err)
	}
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) {
		t.Errorf("a flush after the loss returned %v", err)
	}
	equal(t, fsys.Trace(), nil)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 3)))
	// The truncation is synced on a descriptor of its own.
	equal(t, fsys.Trace(), []string{"open out.log", "truncate out.log", "datasync out.log", "close out.log", "close out.log", "close out.log+checkpoint"})

	s = mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 3, 6))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 9)))
}

// TestFailedSyncLosesOneFileOnly checks that only the file whose sync failed loses records
// since the last successful flush.
func TestFailedSyncLosesOneFileOnly(t *testing.T) {
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
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) || !errors.As(err, &some) || len(some.Failed) != 1 || some.Failed[sink.TopicPartition{Topic: "orders", Partition: 1}] == nil {
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

// TestCloseReportsAFailedSync checks that Close returns a loss that it detects first.
func TestCloseReportsAFailedSync(t *testing.T) {
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
	mustClose(t, mustOpen(t, fileSpec(path), nil)) // released nevertheless
}

// TestSinksFailIndependently checks that a fault of one sink does not affect another one.
func TestSinksFailIndependently(t *testing.T) {
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

// TestFlushDuringFailedWrites truncates failed writes while flushes run. The race detector
// checks both.
func TestFlushDuringFailedWrites(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	resume(t, s, 0)
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
			_ = s.Flush(t.Context(), false)
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
