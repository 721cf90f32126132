package file

import (
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
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/retention"
)

// TestFilesOfRevokedPartitionsAreCompleted checks that they are completed at the end of the
// period, or, with a size only, a minute later. A file whose partition is assigned again in
// time, or that another agent writes, is not completed.
func TestFilesOfRevokedPartitionsAreCompleted(t *testing.T) {
	for name, r := range map[string]*sink.Rotate{"every": {Every: time.Hour}, "size": {Size: 1000}} {
		t.Run(name, func(t *testing.T) {
			dir, clk := t.TempDir(), newClock()
			pattern := filepath.Join(dir, "{partition}.log")
			s := openAt(t, clk, pattern, r)
			for p := range int32(3) {
				resume(t, s, p)
				mustWrite(t, s, records(p, 0, 2))
			}
			mustFlush(t, s)
			if err := s.Release(); err != nil {
				t.Fatal(err)
			}
			resume(t, s, 0) // assigned again
			other := openAt(t, clk, pattern, r)
			resume(t, other, 1) // another agent writes it
			runKeeper(s)
			for p := range int32(3) {
				if done := completeFiles(t, filepath.Join(dir, fmt.Sprintf("%d.log", p))); len(done) != 0 {
					t.Errorf("completed at once: %q", done)
				}
			}
			clk.add(time.Hour)
			runKeeper(s)
			for p, n := range []int{0, 0, 1} {
				path := filepath.Join(dir, fmt.Sprintf("%d.log", p))
				if done := completeFiles(t, path); len(done) != n {
					t.Errorf("partition %d has %d complete files, want %d", p, len(done), n)
				}
			}
			mustClose(t, other)
			mustClose(t, s)
			for p := range int32(3) {
				path := filepath.Join(dir, fmt.Sprintf("%d.log", p))
				equal(t, contents(t, append(completeFiles(t, path), path)...), want(p, 0, 2))
			}
		})
	}
}

// TestFilesLeftBehindAreCompletedAfterAStart checks that files of partitions and topics that
// do not exist any more are completed within a minute after the start.
func TestFilesLeftBehindAreCompletedAfterAStart(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	pattern, r := filepath.Join(dir, "{topic}", "{partition}.log"), &sink.Rotate{Every: time.Hour}
	s := openAt(t, clk, pattern, r)
	for p := range int32(2) {
		resume(t, s, p)
		mustWrite(t, s, records(p, 0, 2))
	}
	mustClose(t, s)
	stranger := filepath.Join(dir, "orders", "7.log") // not written by this consumer
	writeFile(t, stranger, "x\n")
	clk.t = time.Now().Add(2 * time.Hour) // after the modification times of the files
	s = openAt(t, clk, pattern, r)
	resume(t, s, 0)
	clk.add(time.Minute)
	runKeeper(s)
	if n := len(completeFiles(t, filepath.Join(dir, "orders", "1.log"))); n != 1 {
		t.Errorf("%d complete files of the removed partition, want 1", n)
	}
	checkFile(t, stranger, "x\n")
	mustClose(t, s)
}

// TestKeepCoversAllFilesOfTheConsumer checks that keep and keep_for apply to complete files
// of assigned partitions and of former ones, and to no file of another writer.
func TestKeepCoversAllFilesOfTheConsumer(t *testing.T) {
	for name, r := range map[string]*sink.Rotate{"keep": {Size: 10, Keep: 2}, "keep_for": {Size: 10, KeepFor: 150 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			dir, clk := t.TempDir(), newClock()
			write6 := func(pattern, consumer string) {
				spec := exactSpec(pattern)
				spec.File.Rotate = &sink.Rotate{Size: 10}
				s, err := openWith(t.Context(), spec, testOptions{Consumer: consumer, Group: "g", Now: clk.now})
				if err != nil {
					t.Fatal(err)
				}
				for i := range 6 { // one per hour
					for p := range int32(2) {
						resume(t, s, p)
						mustWrite(t, s, records(p, 2*i, 2))
					}
					clk.add(time.Hour)
				}
				mustClose(t, s)
				clk.add(-6 * time.Hour)
			}
			write6(filepath.Join(dir, "{partition}.log"), "c")
			write6(filepath.Join(dir, "{partition}.log.gz"), "c") // its names begin the same
			write6(filepath.Join(dir, "1{partition}.log"), "another")
			clk.add(6 * time.Hour)
			stranger := filepath.Join(dir, "0+20200101T000000.000Z.logx")
			writeFile(t, stranger, "x\n")
			s := openAt(t, clk, filepath.Join(dir, "{partition}.log"), r)
			resume(t, s, 0)
			clk.add(time.Minute)
			runKeeper(s)
			keeps := 2
			if r.KeepFor > 0 {
				keeps = 3
			}
			for path, n := range map[string]int{"0.log": keeps, "1.log": keeps, "0.log.gz": 6, "1.log.gz": 6, "10.log": 6, "11.log": 6} {
				if got := completeFiles(t, filepath.Join(dir, path)); len(got) != n {
					t.Errorf("%d complete files of %s, want %d: %q", len(got), path, n, got)
				}
			}
			if _, err := os.Stat(stranger); err != nil {
				t.Error(err)
			}
			mustClose(t, s)
		})
	}
}

// TestKeepFollowsRenamedConsumers checks that complete files under the old name count once
// the partition of the path is assigned, before or after the folder is listed, also if no
// more records come.
func TestKeepFollowsRenamedConsumers(t *testing.T) {
	for _, before := range []bool{true, false} {
		dir, clk := t.TempDir(), newClock()
		open := func(consumer string, keep int) sink.Sink {
			spec := exactSpec(filepath.Join(dir, "{partition}.log"))
			spec.File.Rotate = &sink.Rotate{Size: 10, Keep: keep}
			s, err := openWith(t.Context(), spec, testOptions{Consumer: consumer, Group: "g", Now: clk.now})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open("old", 0)
		for i := range 6 {
			resume(t, s, 0)
			resume(t, s, 1)
			mustWrite(t, s, records(0, 2*i, 2))
			mustWrite(t, s, records(1, 2*i, 2))
			clk.add(time.Second)
		}
		mustClose(t, s)
		other := filepath.Join(dir, "1.log")
		others := completeFiles(t, other)
		s = open("new", 2)
		if before {
			resume(t, s, 0)
		}
		clk.add(time.Minute)
		runKeeper(s)
		if !before {
			resume(t, s, 0)
			runKeeper(s)
		}
		if got := completeFiles(t, filepath.Join(dir, "0.log")); len(got) != 2 {
			t.Errorf("before %v: %d complete files, want 2: %q", before, len(got), got)
		}
		if got := completeFiles(t, other); !slices.Equal(got, others) {
			t.Errorf("before %v: of a path that is not assigned the files %q are left, were %q", before, got, others)
		}
		mustClose(t, s)
	}
}

// TestKeepCoversFilesOfAnotherAgent lets two agents share a folder, as in a blue/green
// roll-out. Files that the other one has completed count once their partition is assigned
// here.
func TestKeepCoversFilesOfAnotherAgent(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	pattern := filepath.Join(dir, "{partition}.log")
	s := openAt(t, clk, pattern, &sink.Rotate{Size: 10, Keep: 2})
	resume(t, s, 0)
	clk.add(time.Minute)
	runKeeper(s)
	other := openAt(t, clk, pattern, &sink.Rotate{Size: 10})
	resume(t, other, 1)
	for i := range 6 {
		mustWrite(t, other, records(1, 2*i, 2))
		clk.add(time.Minute)
	}
	mustClose(t, other)
	resume(t, s, 1)
	clk.add(retention.RescanEvery)
	runKeeper(s)
	if got := completeFiles(t, filepath.Join(dir, "1.log")); len(got) != 2 {
		t.Errorf("%d complete files, want 2: %q", len(got), got)
	}
	mustClose(t, s)
}

// TestKeepIsAppliedAfterEachFile checks that keep is applied without listing the folder
// again.
func TestKeepIsAppliedAfterEachFile(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	path, fsys := filepath.Join(dir, "out.log"), &listingFS{OS: disk.OS{}}
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 10, Keep: 3}
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g", Now: clk.now, FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		mustWrite(t, s, records(0, 2*i, 2))
		clk.add(time.Second)
	}
	clk.add(time.Minute)
	runKeeper(s)
	if got := completeFiles(t, path); len(got) != 3 {
		t.Errorf("%d complete files, want 3: %q", len(got), got)
	}
	for i := range 50 {
		mustWrite(t, s, records(0, 100+2*i, 2))
		clk.add(time.Second)
	}
	runKeeper(s)
	if got := completeFiles(t, path); len(got) != 3 || !strings.Contains(got[2], clk.now().Add(-time.Second).Format("150405")) {
		t.Errorf("complete files are %q", got)
	}
	mustClose(t, s)
	if n := fsys.lists.Load(); n > 1 {
		t.Errorf("the folder was listed %d times, want once", n)
	}
}

// TestFileIsCompletedAfterItsLastPartitionWasRevoked checks that the file of a path without
// placeholders is completed a minute after the last partition was revoked, and stays locked.
func TestFileIsCompletedAfterItsLastPartitionWasRevoked(t *testing.T) {
	path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
	s := openAt(t, clk, path, &sink.Rotate{Size: 3000})
	resume(t, s, 7)
	mustWrite(t, s, records(7, 0, 3))
	mustFlush(t, s)
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	clk.add(retention.UnassignedGrace)
	runKeeper(s)
	if n := len(completeFiles(t, path)); n != 1 {
		t.Errorf("%d complete files, want 1", n)
	}
	if _, err := openWith(t.Context(), exactSpec(path), testOptions{Group: "g"}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	wantNext(t, s, 7, 3)
	mustWrite(t, s, records(7, 3, 3))
	mustClose(t, s)
	equal(t, contents(t, append(completeFiles(t, path), path)...), want(7, 0, 6))
}

// TestClockSetBackDelaysNoRemoval checks that a clock that is set back by hours after a
// start does not delay the first list of the folders by hours.
func TestClockSetBackDelaysNoRemoval(t *testing.T) {
	path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
	s := openAt(t, clk, path, &sink.Rotate{Size: 30})
	for i := range 5 {
		mustWrite(t, s, records(0, 3*i, 3))
		clk.add(time.Second)
	}
	mustClose(t, s)
	s = openAt(t, clk, path, &sink.Rotate{Size: 30, Keep: 1})
	clk.add(-12 * time.Hour)
	runKeeper(s)
	if n := len(completeFiles(t, path)); n != 1 {
		t.Errorf("%d complete files, want 1", n)
	}
	mustClose(t, s)
}

// TestPipeInPlaceOfACheckpoint checks that a named pipe with the name of a checkpoint does
// not block.
func TestPipeInPlaceOfACheckpoint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "9.log")
	writeFile(t, path, "x\n")
	if err := syscall.Mkfifo(path+filename.CheckpointSuffix, 0o600); err != nil {
		t.Skip(err)
	}
	s := openAt(t, newClock(), filepath.Join(dir, "{partition}.log"), &sink.Rotate{Size: 30, Keep: 3})
	done := make(chan error, 1)
	go func() { done <- s.Close(true) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("Close is blocked by the pipe")
	}
	checkFile(t, path, "x\n")
}
