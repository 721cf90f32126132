package file

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
)

// A listingFS counts how often folders are listed.
type listingFS struct {
	disk.OS
	lists atomic.Int32
}

func (f *listingFS) List(dir string, each func(string, uint64) bool) error {
	f.lists.Add(1)
	return f.OS.List(dir, each)
}

// TestFilesAreParkedToSaveDescriptors writes two hundred partitions with descriptors for a
// few files. Unused files are parked and opened again, and each record is there once.
func TestFilesAreParkedToSaveDescriptors(t *testing.T) {
	for _, d := range []sink.Delivery{sink.ExactlyOnce, sink.AtLeastOnce} {
		t.Run(string(d), func(t *testing.T) {
			const partitions = 200
			dir := t.TempDir()
			spec := exactSpec(filepath.Join(dir, "{partition}.log"))
			spec.File.Delivery = d
			s, err := openWith(t.Context(), spec, testOptions{Group: "g", pool: writer.NewPool(limits.NewBudget(20))})
			if err != nil {
				t.Fatal(err)
			}
			for p := range int32(partitions) {
				resume(t, s, p)
			}
			for i := range 5 {
				for p := range int32(partitions) {
					mustWrite(t, s, records(p, i*2, 2))
				}
				if open := openBelow(t, dir); open > 20 {
					t.Fatalf("%d files are open, want at most 20", open)
				}
			}
			mustClose(t, s)
			for p := range int32(partitions) {
				checkFile(t, filepath.Join(dir, fmt.Sprintf("%d.log", p)), lines(want(p, 0, 10)))
			}
		})
	}
}

// park parks the files of a sink, as a lack of descriptors does.
func park(t *testing.T, s sink.Sink) {
	t.Helper()
	for _, w := range s.(*fileSink).writers() {
		if !w.TryPark() {
			t.Fatalf("%s was not closed", w.Path)
		}
	}
}

// openBelow counts the open files of this process below a folder.
func openBelow(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && filepath.Dir(target) == dir {
			n++
		}
	}
	return n
}

// TestParkedFileChangedByAnotherWriter checks that the partition has to resume if another
// agent changed the file while it was parked: the ledger in memory does not contain the
// change.
func TestParkedFileChangedByAnotherWriter(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	s := openExact(t, pattern, nil)
	resume(t, s, 0)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	park(t, s)
	other := openExact(t, pattern, nil)
	wantNext(t, other, 0, 3)
	mustWrite(t, other, records(0, 3, 3))
	mustClose(t, other)
	if err := write(t.Context(), s, records(0, 3, 3)); err == nil {
		t.Fatal("written on top of the other writer's records")
	}
	wantNext(t, s, 0, 6)
	mustWrite(t, s, records(0, 6, 1))
	mustClose(t, s)
	checkFile(t, filepath.Join(filepath.Dir(pattern), "0.log"), lines(want(0, 0, 7)))
}

// TestPositionAdoptedWhileParked checks that a position that is adopted while the file is
// parked is in the ledger after the next flush.
func TestPositionAdoptedWhileParked(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	s := openExact(t, pattern, nil)
	id := resume(t, s, 0).ID
	if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, id, sink.Position{Next: 7}); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	park(t, s)
	if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, id, sink.Position{Next: 9}); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	abandon(t, s)
	s = openExact(t, pattern, nil)
	wantNext(t, s, 0, 9)
	mustClose(t, s)
}

// TestLedgerIDIsKeptWhileParked checks that a ledger that gets another ID while the file is
// parked keeps the ID and its lineage when the file is opened again.
func TestLedgerIDIsKeptWhileParked(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	s := openExact(t, pattern, nil)
	resume(t, s, 0)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	park(t, s)
	if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, "new", sink.Position{Next: 3, Lineage: "x"}); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	for range 2 { // also after it was stored and parked once more
		if l := resume(t, s, 0); l.ID != "new" || l.Lineage != "x" || l.Next != 3 {
			t.Errorf("the ledger is %+v", l)
		}
		park(t, s)
	}
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, filepath.Join(filepath.Dir(pattern), "0.log"), lines(want(0, 0, 6)))
}

// TestReusedInodeIsAnotherFile checks that a file of another program with the inode of a
// file that was removed while it was parked has another birth time, and is not truncated.
func TestReusedInodeIsAnotherFile(t *testing.T) {
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Zstd} {
		t.Run(string(c), func(t *testing.T) {
			m, spec := disktest.NewMemoryFS(), exactSpec("/d/{partition}.log")
			spec.File.Compression = c
			s := mustOpen(t, spec, m)
			resume(t, s, 0)
			mustWrite(t, s, records(0, 0, 3))
			mustFlush(t, s)
			park(t, s)
			id, last := m.Files["/d/0.log"].ID, m.LastInode
			if err := m.Remove("/d/0.log"); err != nil {
				t.Fatal(err)
			}
			m.LastInode = id - 1
			f, err := m.OpenFile("/d/0.log", os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			m.LastInode = last
			foreign := "a line of another program\nand its last, not ended"
			if _, err := f.Write([]byte(foreign)); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, s, records(0, 3, 1))
			mustClose(t, s)
			kept := func(i *disktest.MemoryInode) bool { return i.ID == id && strings.HasPrefix(string(i.Data), foreign) }
			if !slices.ContainsFunc(slices.Collect(maps.Values(m.Files)), kept) {
				t.Errorf("the file of the other program was truncated; files are %q", m.FileNames())
			}
		})
	}
}

// TestCheckpointRemovedWhileParked checks that a checkpoint that was removed while the file
// was parked is written again from the ledger in memory.
func TestCheckpointRemovedWhileParked(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	path := filepath.Join(filepath.Dir(pattern), "0.log")
	s := openExact(t, pattern, nil)
	id := resume(t, s, 0).ID
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	park(t, s)
	if err := os.Remove(path + filename.CheckpointSuffix); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 3)) // not flushed
	if l := resume(t, s, 0); l.ID != id || l.Next != 6 {
		t.Errorf("the ledger is %+v", l)
	}
	abandon(t, s)
	s = openExact(t, pattern, nil)
	wantNext(t, s, 0, 3)
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 6)))
}

// TestUnflushedRecordsOfAnotherWriterAreTruncated checks that records are truncated that
// another agent wrote while the file was parked here, if that agent died before a flush: no
// checkpoint covers them, and Kafka redelivers them.
func TestUnflushedRecordsOfAnotherWriterAreTruncated(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	s, other := openExact(t, pattern, nil), openExact(t, pattern, nil)
	resume(t, s, 0)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	park(t, s)
	wantNext(t, other, 0, 3)
	mustWrite(t, other, records(0, 3, 3))
	abandon(t, other)
	if err := write(t.Context(), s, records(0, 3, 3)); errors.Is(err, sink.ErrReopen) {
		wantNext(t, s, 0, 3)
		mustWrite(t, s, records(0, 3, 3))
	} else if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	checkFile(t, filepath.Join(filepath.Dir(pattern), "0.log"), lines(want(0, 0, 6)))
}
