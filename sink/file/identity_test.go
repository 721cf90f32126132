package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
)

// TestTopicsCannotNameFilesBesideDataFiles checks that the file of a topic with any name is
// not the checkpoint or a complete file of another topic.
func TestTopicsCannotNameFilesBesideDataFiles(t *testing.T) {
	dir := t.TempDir()
	spec := exactSpec(filepath.Join(dir, "{topic}"))
	spec.File.Rotate = &sink.Rotate{Size: 30}
	topics := []string{"orders", "orders.next", "orders.checkpoint", "orders.lock", "orders.gz", "orders-20261123T171500.000Z", "orders.checkpoint.tmp"}
	s := mustOpen(t, spec, nil)
	const n = 20
	for i := range n {
		for _, topic := range topics {
			recs := records(0, i, 1)
			recs[0].Topic = topic
			if i%7 == 3 {
				mustFlush(t, s)
			}
			mustWrite(t, s, recs)
		}
		if i == n/2 { // a rebalance
			mustFlush(t, s)
			if err := s.Release(); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, s)
	for _, topic := range topics {
		path := filepath.Join(dir, topic)
		equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, n))
	}
}

// TestStaleCheckpointTruncatesNoOtherFile renames a consumer, whose file is moved with it
// but whose checkpoint is not. Another consumer that later uses the old path does not change
// the moved file, whether it is being written or not.
func TestStaleCheckpointTruncatesNoOtherFile(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live=%v", live), func(t *testing.T) {
			dir := t.TempDir()
			a, b := filepath.Join(dir, "orders.log"), filepath.Join(dir, "orders2.log")
			s := openExact(t, a, nil)
			mustWrite(t, s, records(0, 0, 3))
			mustClose(t, s)
			if err := os.Rename(a, b); err != nil {
				t.Fatal(err)
			}
			other, err := openWith(t.Context(), exactSpec(b), testOptions{Group: "other"})
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, other, records(0, 3, 100))
			mustFlush(t, other)
			if !live {
				mustClose(t, other)
			}
			third, err := openWith(t.Context(), exactSpec(a), testOptions{Group: "third"})
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, third, records(0, 0, 1))
			mustClose(t, third)
			if live {
				mustClose(t, other)
			}
			checkFile(t, b, lines(want(0, 0, 103)))
			checkFile(t, a, lines(want(0, 0, 1)))
		})
	}
}

// TestResumeLocks checks that no other writer gets the file of a partition after Resume, so
// that what Resume has returned stays true.
func TestResumeLocks(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{topic}-{partition}.log")
	one, two := openExact(t, pattern, nil), openExact(t, pattern, nil)
	wantNext(t, one, 0, -1)
	if _, err := two.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, nil); !errors.Is(err, disk.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	wantNext(t, two, 1, -1) // other partitions can be resumed
	mustWrite(t, one, records(0, 0, 5))
	mustFlush(t, one)
	if err := one.Release(); err != nil {
		t.Fatal(err)
	}
	wantNext(t, two, 0, 5)
	mustClose(t, one)
	mustClose(t, two)
}

// TestFileAndCheckpointCanBeMovedAway checks that, after a crash at any moment, moving file
// and checkpoint away starts a new file: no third file would be used.
func TestFileAndCheckpointCanBeMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 50}
	for n := range 12 {
		s, err := openWith(t.Context(), spec, testOptions{Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			mustWrite(t, s, records(0, i, 1))
		}
		abandon(t, s)
		for _, suffix := range []string{"", filename.CheckpointSuffix} {
			if err := os.Rename(path+suffix, filepath.Join(t.TempDir(), "away")); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		s, err = openWith(t.Context(), spec, testOptions{Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		wantNext(t, s, 0, -1)
		mustClose(t, s)
		checkFile(t, path, "")
	}
}

// TestFilesWithEqualContentAreDistinguished checks that files with the same content are told
// apart by inode and birth time, over a rotation and a crash after each record.
func TestFilesWithEqualContentAreDistinguished(t *testing.T) {
	for _, size := range []sink.Size{20, 50, 5000} {
		path := filepath.Join(t.TempDir(), "out.log")
		spec := exactSpec(path)
		spec.File.Rotate = &sink.Rotate{Size: size}
		written := 0
		for kill := range 40 {
			s, err := openWith(t.Context(), spec, testOptions{Group: "g"})
			if err != nil {
				t.Fatal(err)
			}
			at := max(0, int(resume(t, s, 0).Next))
			for i := range kill % 9 {
				mustWrite(t, s, []sink.Record{{Topic: "orders", Offset: int64(at + i), Value: []byte("ping")}})
				if (kill+i)%5 == 0 {
					mustFlush(t, s)
					written = at + i + 1
				}
			}
			abandon(t, s)
		}
		s, err := openWith(t.Context(), spec, testOptions{Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		if next := int(resume(t, s, 0).Next); next < written {
			t.Errorf("continues at %d, flushed were %d", next, written)
		}
		if got, next := len(contents(t, append(completeFiles(t, path), path)...)), int(resume(t, s, 0).Next); got != max(0, next) {
			t.Errorf("size %d: the files hold %d records, the ledger says %d", size, got, next)
		}
		mustClose(t, s)
	}
}

// TestLongNameFailsItsPartition checks that a name that leaves no space for a suffix fails
// its own partition only, with the name in the error.
func TestLongNameFailsItsPartition(t *testing.T) {
	s := openExact(t, filepath.Join(t.TempDir(), "{topic}.log"), nil)
	for _, n := range []int{200, 249} {
		topic := strings.Repeat("t", n)
		recs := records(0, 0, 1)
		recs[0].Topic = topic
		err := write(t.Context(), s, recs)
		if fits := n == 200; fits != (err == nil) || !fits && !strings.Contains(err.Error(), topic) {
			t.Errorf("a topic of %d characters: %v", n, err)
		}
	}
	mustWrite(t, s, records(0, 0, 1))
	mustFlush(t, s)
	mustClose(t, s)
}

// TestRemovedCheckpointIsWrittenAgain checks that a checkpoint that was removed while it was
// in use is written again, and locked.
func TestRemovedCheckpointIsWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	if err := os.Remove(path + filename.CheckpointSuffix); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 3))
	mustFlush(t, s)
	if _, err := openWith(t.Context(), exactSpec(path), testOptions{Group: "g"}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	mustWrite(t, s, records(0, 6, 3))
	abandon(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 6)
	mustWrite(t, s, records(0, 6, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 9)))
}

// TestEmptiedFileIsContinued checks that a file that another program emptied while the agent
// was stopped (copytruncate) is continued, like a file that was deleted.
func TestEmptiedFileIsContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustClose(t, s)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 3)
	mustWrite(t, s, records(0, 3, 2))
	abandon(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 3)
	mustWrite(t, s, records(0, 3, 2))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 3, 2)))
}

// TestBadFileFailsItsPartition checks that a file that cannot be opened, locked, written or
// synced fails its own partition, and that the flush covers all others.
func TestBadFileFailsItsPartition(t *testing.T) {
	bad := sink.TopicPartition{Topic: "orders", Partition: 1}
	for _, call := range []string{"open 1.log+checkpoint", "lock 1.log+checkpoint", "open 1.log", "write 1.log", "datasync 1.log", "writeat 1.log+checkpoint", "fstat 1.log"} {
		t.Run(call, func(t *testing.T) {
			dir, fsys := t.TempDir(), disktest.NewFaultFS()
			s := openExact(t, filepath.Join(dir, "{partition}.log"), fsys)
			fsys.SetFault(fail(syscall.EIO, call))
			for i := range 3 {
				mustWrite(t, s, records(0, i, 1))
				mustWrite(t, s, records(2, i, 1))
				err := write(t.Context(), s, records(1, 0, 1))
				ferr := s.Flush(t.Context(), false)
				var some *sink.FlushError
				switch {
				case err == nil && ferr == nil:
					t.Fatal("the fault was not noticed")
				case ferr != nil && (!errors.As(ferr, &some) || len(some.Failed) != 1 || some.Failed[bad] == nil):
					t.Fatalf("flush: %v, want that partition 1 alone fails", ferr)
				case err != nil && !strings.Contains(err.Error(), filepath.Join(dir, "1.log")):
					t.Fatalf("%v does not name the file", err)
				}
				if err == nil && errors.Is(ferr, sink.ErrReopen) {
					_, _ = s.Resume(t.Context(), bad, nil)
				}
			}
			fsys.SetFault(nil)
			next := max(resume(t, s, 1).Next, 0)
			mustWrite(t, s, records(1, int(next), 3-int(next)))
			mustClose(t, s)
			for p := range int32(3) {
				checkFile(t, filepath.Join(dir, fmt.Sprintf("%d.log", p)), lines(want(p, 0, 3)))
			}
		})
	}
}
