package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
)

// TestFlushSyncsTwice checks that a flush syncs the data and the checkpoint, which is
// written in place, and that a flush without new records syncs nothing.
func TestFlushSyncsTwice(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	for i := range 3 {
		mustWrite(t, s, records(0, 3+i, 1))
		fsys.Trace()
		mustFlush(t, s)
		equal(t, fsys.Trace(), []string{
			"datasync out.log", "writeat out.log+checkpoint", "datasync out.log+checkpoint",
		})
		mustFlush(t, s)
		equal(t, fsys.Trace(), nil)
	}
	mustClose(t, s)
}

// TestNoCheckpointWithoutDurableData checks that no checkpoint is stored if the data could
// not be synced, and that the sink continues at the last checkpoint when it is opened again.
func TestNoCheckpointWithoutDurableData(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	fsys.SetFault(fail(syscall.EIO, "datasync out.log"))
	fsys.Trace()
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v, want no second sync on the descriptor", err)
	}
	equal(t, fsys.Trace(), []string{"datasync out.log"})
	mustClose(t, s)
	s = openExact(t, path, fsys)
	wantNext(t, s, 0, 3)
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 6)))
}

// TestFailedCheckpointIsRetried checks that a flush fails with path and cause, whatever call
// fails. Records are accepted meanwhile, and a later flush covers all. A crash in between
// repeats none.
func TestFailedCheckpointIsRetried(t *testing.T) {
	for _, call := range []string{"writeat out.log+checkpoint", "datasync out.log+checkpoint", "fstat out.log+checkpoint"} {
		for _, crash := range []bool{false, true} {
			t.Run(call, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "d")
				path, fsys := filepath.Join(dir, "out.log"), disktest.NewFaultFS()
				s := openExact(t, path, fsys)
				mustWrite(t, s, records(0, 0, 3))
				mustFlush(t, s)
				mustWrite(t, s, records(0, 3, 3))
				fsys.SetFault(fail(syscall.ENOSPC, call))
				for range 2 {
					err := s.Flush(t.Context(), false)
					if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, sink.ErrReopen) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "free disk space") {
						t.Fatalf("got %v", err)
					}
				}
				mustWrite(t, s, records(0, 6, 3))
				fsys.SetFault(nil)
				if crash {
					abandon(t, s)
					s = openExact(t, path, fsys)
					next := int(resume(t, s, 0).Next)
					if next != 3 && next != 6 {
						t.Fatalf("the position is %d", next)
					}
					mustWrite(t, s, records(0, next, 9-next))
				}
				mustFlush(t, s)
				wantNext(t, s, 0, 9)
				mustClose(t, s)
				checkFile(t, path, lines(want(0, 0, 9)))
			})
		}
	}
}

// TestFileMovedAfterACrash checks that a file is truncated where it is if it was moved after
// a crash, so that its uncovered records are only in the new file.
func TestFileMovedAfterACrash(t *testing.T) {
	for name, create := range map[string]bool{"renamed": false, "renamed and created again": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.log")
			s := openExact(t, path, nil)
			mustWrite(t, s, records(0, 0, 3))
			mustFlush(t, s)
			mustWrite(t, s, records(0, 3, 3))
			abandon(t, s)
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			if create {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s = openExact(t, path, nil)
			wantNext(t, s, 0, 3)
			mustWrite(t, s, records(0, 3, 3))
			abandon(t, s)
			s = openExact(t, path, nil)
			wantNext(t, s, 0, 3)
			mustWrite(t, s, records(0, 3, 4))
			mustClose(t, s)
			checkFile(t, path+".1", lines(want(0, 0, 3)))
			checkFile(t, path, lines(want(0, 3, 4)))
		})
	}
}

// TestEmptyFileIsIdentifiedByBirthTime checks that a file without covered records is
// identified by inode and birth time, and that another file with the same inode is not
// changed.
func TestEmptyFileIsIdentifiedByBirthTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 3))
	abandon(t, s)
	for _, moved := range []bool{false, true} {
		if moved {
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
		}
		s = openExact(t, path, nil)
		wantNext(t, s, 0, -1)
		mustWrite(t, s, records(0, 0, 3))
		abandon(t, s)
		checkFile(t, path, lines(want(0, 0, 3)))
		if moved {
			checkFile(t, path+".1", "")
		}
	}
	for range 20 { // until the file system reuses the inode number, if it does
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("somebody's\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantRejected(t, path, "content does not match")
	}
}

// TestFileDeletedAfterACrash checks that the sink continues in a new file, without the
// deleted records.
func TestFileDeletedAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustClose(t, s)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 3)
	mustWrite(t, s, records(0, 3, 2))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 3, 2)))
}

// TestChangedFileThenCrash lets another program move, delete or truncate the file while the
// agent runs, and then crashes.
func TestChangedFileThenCrash(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(path string) error
		kept bool // the earlier records are in some file
	}{
		"moved":     {func(p string) error { return os.Rename(p, p+".1") }, true},
		"deleted":   {os.Remove, false},
		"truncated": {func(p string) error { return os.Truncate(p, 0) }, false},
	} {
		for _, flushed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out.log")
				s := openExact(t, path, nil)
				mustWrite(t, s, records(0, 0, 3))
				mustFlush(t, s)
				if err := c.act(path); err != nil {
					t.Fatal(err)
				}
				if !flushed { // the flush detects the change
					mustWrite(t, s, records(0, 3, 3))
				}
				mustFlush(t, s)
				if flushed {
					mustWrite(t, s, records(0, 3, 3))
					mustFlush(t, s)
				}
				mustWrite(t, s, records(0, 6, 3)) // not flushed
				abandon(t, s)
				s = openExact(t, path, nil)
				wantNext(t, s, 0, 6)
				mustWrite(t, s, records(0, 6, 3))
				mustClose(t, s)
				var all []string
				if c.kept {
					all = values(t, sink.Raw, readFile(t, path+".1"))
				}
				all = append(all, values(t, sink.Raw, readFile(t, path))...)
				first := 0
				if !c.kept {
					first = 3
				}
				equal(t, all, want(0, first, 9-first))
			})
		}
	}
}
