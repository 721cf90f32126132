package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"kcagent/limits"
)

// A listingFS counts how often folders are listed.
type listingFS struct {
	osFS
	lists atomic.Int32
}

func (f *listingFS) List(dir string, each func(string, uint64) bool) error {
	f.lists.Add(1)
	return f.osFS.List(dir, each)
}

// TestFilesAreClosedToSaveDescriptors: two hundred partitions are written with room
// for a few files. Those that are not used are closed and opened again, and each record
// is there once.
func TestFilesAreClosedToSaveDescriptors(t *testing.T) {
	for _, d := range []Delivery{ExactlyOnce, AtLeastOnce} {
		t.Run(string(d), func(t *testing.T) {
			const partitions = 200
			dir := t.TempDir()
			spec := exactSpec(filepath.Join(dir, "{partition}.log"))
			spec.File.Delivery = d
			s, err := Open(t.Context(), spec, Options{Group: "g", files: newOpenFiles(limits.NewBudget(20))})
			if err != nil {
				t.Fatal(err)
			}
			for p := range int32(partitions) {
				place(t, s, p)
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

// TestParkedFileOfAnotherWriter: what another agent did to a file while it was closed
// is not in the ledger in memory, so the partition has to resume.
func TestParkedFileOfAnotherWriter(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	s := openExact(t, pattern, nil)
	place(t, s, 0)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	for _, w := range s.(*fileSink).writers() {
		if !w.tryPark() {
			t.Fatal("not parked")
		}
	}
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

// TestAdoptedWhileClosed: a position that is adopted while the file is closed to save
// descriptors is in the ledger after the next flush.
func TestAdoptedWhileClosed(t *testing.T) {
	pattern := filepath.Join(t.TempDir(), "{partition}.log")
	s := openExact(t, pattern, nil)
	id := place(t, s, 0).ID
	if err := s.Adopt(t.Context(), TopicPartition{"orders", 0}, id, Position{Next: 7}); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	for _, w := range s.(*fileSink).writers() {
		if !w.tryPark() {
			t.Fatal("not closed")
		}
	}
	if err := s.Adopt(t.Context(), TopicPartition{"orders", 0}, id, Position{Next: 9}); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	die(t, s)
	s = openExact(t, pattern, nil)
	wantNext(t, s, 0, 9)
	mustClose(t, s)
}
