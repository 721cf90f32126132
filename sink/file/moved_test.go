package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
)

// TestMovedFileKeepsItsRecords moves the file as logrotate does. Each record is in one of
// the two files, and the moved one is synced before it is closed.
func TestMovedFileKeepsItsRecords(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	path, moved := filepath.Join(dir, "out.log"), filepath.Join(dir, "out.log.1")
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 3))
	fsys.Trace()
	mustFlush(t, s)
	equal(t, fsys.Trace(), []string{"datasync out.log", "close out.log"})
	mustWrite(t, s, records(0, 6, 3))
	mustFlush(t, s)
	checkFile(t, moved, lines(want(0, 0, 6)))
	checkFile(t, path, lines(want(0, 6, 3)))
	mustClose(t, s)
}

// TestFailedSyncOfAMovedFile checks that a moved file whose sync fails is truncated where it
// is, and that the path stays free.
func TestFailedSyncOfAMovedFile(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	path, moved := filepath.Join(dir, "out.log"), filepath.Join(dir, "out.log.1")
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	fsys.SetFault(fail(syscall.EIO, "datasync out.log"))
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	if err := write(t.Context(), s, records(0, 6, 3)); !errors.Is(err, sink.ErrReopen) {
		t.Fatalf("a sink accepted records after a loss: %v", err)
	}
	mustClose(t, s)
	checkFile(t, moved, lines(want(0, 0, 3)))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the path: %v", err)
	}
}

// TestUnflushedRecordsOfADeletedFileAreCopied checks that records of a deleted file that were not flushed are
// in the new file, with new folders and a new lock.
func TestUnflushedRecordsOfADeletedFileAreCopied(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	path := filepath.Join(dir, "sub/out.log")
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 6, 3))
	fsys.SetFault(fail(syscall.ENOSPC, "write out.log"))
	if err := s.Flush(t.Context(), false); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v, want that a rescue without room is tried again", err)
	}
	fsys.SetFault(nil)
	mustFlush(t, s)
	mustWrite(t, s, records(0, 9, 3))
	checkFile(t, path, lines(want(0, 3, 9)))
	if _, err := os.Stat(path + filename.CheckpointSuffix); err != nil {
		t.Errorf("the lock file is not there again: %v", err)
	}
	if _, err := openWith(t.Context(), fileSpec(path), testOptions{}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("got %v, want that the new file is locked too", err)
	}
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 3, 9)))
}

// TestDeletedIdleFileIsCreatedByTheNextRecord checks that a deleted file whose records were
// all flushed is created again by the next record, and not before.
func TestDeletedIdleFileIsCreatedByTheNextRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := mustOpen(t, fileSpec(path), nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty file was created")
	}
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 3, 3)))
}

// TestTruncatedFileIsNotFilledWithZeros truncates the file as logrotate's copytruncate does.
// The sink continues at the new end and never fills the gap with zeros, not even to undo a
// write.
func TestTruncatedFileIsNotFilledWithZeros(t *testing.T) {
	for name, flush := range map[string]bool{"noticed": true, "unnoticed": false} {
		t.Run(name, func(t *testing.T) {
			path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
			s := mustOpen(t, fileSpec(path), fsys)
			mustWrite(t, s, records(0, 0, 30))
			mustFlush(t, s)
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			if flush {
				mustFlush(t, s)
				fsys.Trace()
				mustFlush(t, s)
				equal(t, fsys.Trace(), nil) // reported once
			}
			mustWrite(t, s, records(0, 30, 3))
			fsys.SetRoom(15)
			if err := write(t.Context(), s, records(0, 33, 3)); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("got %v", err)
			}
			checkFile(t, path, lines(want(0, 30, 3)))
			fsys.SetRoom(-1)
			mustWrite(t, s, records(0, 33, 3))
			mustClose(t, s)
			checkFile(t, path, lines(want(0, 30, 6)))
		})
	}
}

// TestTruncationAfterALossDoesNotGrowTheFile checks that truncating after a failed sync does
// not make a file longer that another program has shortened.
func TestTruncationAfterALossDoesNotGrowTheFile(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(path), fsys)
	mustWrite(t, s, records(0, 0, 30))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 30, 3))
	fsys.SetFault(fail(syscall.EIO, "datasync out.log"))
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	checkFile(t, path, "")
}

// TestTruncationAfterALossEndsAfterARecord checks that truncating after a failed sync ends
// after a whole record, also in a file that another program shortened and that has grown
// since.
func TestTruncationAfterALossEndsAfterARecord(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	path := filepath.Join(dir, "0.log")
	s := mustOpen(t, fileSpec(filepath.Join(dir, "{partition}.log")), fsys)
	mustWrite(t, s, records(0, 0, 3))
	mustWrite(t, s, []sink.Record{{Value: []byte("odd"), Topic: "orders"}})
	mustFlush(t, s)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 1))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 4, 9))
	fsys.SetFault(fail(syscall.EIO, "datasync 0.log"))
	if err := s.Flush(t.Context(), false); !errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 3, 1)))
}

// deletedFile returns a sink whose file was deleted after a flush that covered the first of
// five records.
func deletedFile(t *testing.T, spec sink.Spec, fsys disk.FS) sink.Sink {
	t.Helper()
	s := mustOpen(t, spec, fsys)
	mustWrite(t, s, records(0, 0, 1))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 1, 4))
	if spec.File.Compression != "" { // as more records than a frame holds do
		if err := s.(*fileSink).single.WritePending(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(spec.File.Path); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFailedCopyOfADeletedFileIsRepeated checks that the next flush continues a rescue that failed in
// the middle and could not be undone.
func TestFailedCopyOfADeletedFileIsRepeated(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := deletedFile(t, exactSpec(path), fsys)
	fsys.SetRoom(25) // two records and a half
	fsys.SetFault(fail(syscall.EIO, "truncate out.log"))
	for range 2 {
		if err := s.Flush(t.Context(), false); err == nil || errors.Is(err, sink.ErrReopen) {
			t.Fatalf("got %v", err)
		}
	}
	fsys.SetFault(nil)
	fsys.SetRoom(-1)
	mustFlush(t, s)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 1, 4)))
}

// TestCrashWhileADeletedFileIsCopied checks that, after a crash in the middle of a rescue, the rescued
// records are truncated, because Kafka redelivers them. Under at_least_once, only a torn
// record is.
func TestCrashWhileADeletedFileIsCopied(t *testing.T) {
	for _, d := range []sink.Delivery{sink.ExactlyOnce, sink.AtLeastOnce} {
		t.Run(string(d), func(t *testing.T) {
			path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
			spec := exactSpec(path)
			spec.File.Delivery = d
			s := deletedFile(t, spec, fsys)
			fsys.SetRoom(25)
			fsys.SetFault(fail(syscall.EIO, "truncate out.log"))
			if err := s.Flush(t.Context(), false); err == nil || errors.Is(err, sink.ErrReopen) {
				t.Fatalf("got %v", err)
			}
			abandon(t, s)
			s = mustOpen(t, spec, nil)
			kept := want(0, 1, 2)
			if d == sink.ExactlyOnce {
				wantNext(t, s, 0, 1)
				kept = nil
			}
			mustWrite(t, s, records(0, 1, 4))
			mustClose(t, s)
			equal(t, contents(t, path), append(kept, want(0, 1, 4)...))
		})
	}
}

// TestCopyOfADeletedFileKeepsItsCompression checks that a compression that is changed before or during a
// rescue does not apply to the new file.
func TestCopyOfADeletedFileKeepsItsCompression(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
			spec := exactSpec(path)
			spec.File.Compression = sink.Gzip
			s := deletedFile(t, spec, fsys)
			update := func() {
				if err := s.Update(exactSpec(path)); err != nil {
					t.Fatal(err)
				}
			}
			if before {
				update()
			}
			fsys.SetRoom(8) // a part of the frame
			fsys.SetFault(fail(syscall.EIO, "truncate out.log"))
			if err := s.Flush(t.Context(), false); err == nil {
				t.Fatal("the fault was not noticed")
			}
			fsys.SetFault(nil)
			fsys.SetRoom(-1)
			if !before {
				update()
			}
			mustFlush(t, s)
			mustWrite(t, s, records(0, 5, 2))
			mustClose(t, s)
			equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 1, 6))
		})
	}
}

// TestDeletedFileWithATornEndIsCopied checks that a flush does not cover records of a
// deleted file whose torn end could not be truncated, before they are in a new file.
func TestDeletedFileWithATornEndIsCopied(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := deletedFile(t, exactSpec(path), fsys)
	fsys.SetRoom(5)
	fsys.SetFault(fail(syscall.EIO, "truncate out.log"))
	if err := write(t.Context(), s, records(0, 5, 1)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	fsys.SetRoom(-1)
	mustFlush(t, s)
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, 5, 1))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 1, 5)))
}
