package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/retention"
)

// An oldCheckpoint is a file of 100 records with a checkpoint from a backup, which covers
// 10.
type oldCheckpoint struct {
	path      string
	newest    string      // the content of the checkpoint that belongs to the file
	committed sink.Ledger // what the group has committed
}

func newOldCheckpoint(t *testing.T, spec sink.Spec) oldCheckpoint {
	t.Helper()
	old := oldCheckpoint{path: strings.ReplaceAll(spec.File.Path, "{partition}", "0")}
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	id := resume(t, s, 0).ID
	if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, id, sink.Position{Lineage: "x"}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 0, 10))
	mustFlush(t, s)
	backup := readFile(t, old.path+filename.CheckpointSuffix)
	mustWrite(t, s, records(0, 10, 90))
	mustFlush(t, s)
	old.committed = resume(t, s, 0)
	mustClose(t, s)
	old.newest = readFile(t, old.path+filename.CheckpointSuffix)
	writeFile(t, old.path+filename.CheckpointSuffix, backup)
	return old
}

// commits returns what the group has committed.
func (o oldCheckpoint) commits(ledger string) map[sink.TopicPartition]sink.Position {
	if ledger != o.committed.ID {
		return nil
	}
	return map[sink.TopicPartition]sink.Position{{Topic: "orders", Partition: 0}: o.committed.Position}
}

// TestOldCheckpointTruncatesNoCommittedRecord checks that a checkpoint that covers less than
// the group has committed is an error with the next step, and that nothing is truncated,
// wherever the file is in its folder. With the right checkpoint the file is continued.
func TestOldCheckpointTruncatesNoCommittedRecord(t *testing.T) {
	for _, name := range []string{"out.log", "{partition}.log"} {
		for _, moved := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s moved=%v", name, moved), func(t *testing.T) {
				pattern := filepath.Join(t.TempDir(), name)
				old := newOldCheckpoint(t, exactSpec(pattern))
				file := old.path
				if moved {
					file += ".1"
					if err := os.Rename(old.path, file); err != nil {
						t.Fatal(err)
					}
				}
				s := openExact(t, pattern, nil)
				for range 2 {
					_, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, old.commits)
					if err == nil || !strings.Contains(err.Error(), old.path+filename.CheckpointSuffix) || !strings.Contains(err.Error(), "restore the checkpoint") {
						t.Errorf("got %v", err)
					}
				}
				checkFile(t, file, lines(want(0, 0, 100)))
				writeFile(t, old.path+filename.CheckpointSuffix, old.newest)
				l, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, old.commits)
				if err != nil || l != old.committed {
					t.Errorf("got %+v, %v, want %+v", l, err, old.committed)
				}
				mustWrite(t, s, records(0, 100, 5))
				mustClose(t, s)
				all := contents(t, file)
				if moved {
					all = append(all, contents(t, old.path)...)
				}
				equal(t, all, want(0, 0, 105))
			})
		}
	}
}

// TestUncoveredRecordsAreTruncated checks that uncovered records are truncated if the group
// has not committed them under the ID and lineage of the ledger, or if the committed offsets
// are unknown. A copy of the file is always truncated.
func TestUncoveredRecordsAreTruncated(t *testing.T) {
	all := func(o oldCheckpoint) sink.Commits { return o.commits }
	for name, c := range map[string]struct {
		commits func(oldCheckpoint) sink.Commits
		copied  bool
	}{
		"unknown commits": {func(oldCheckpoint) sink.Commits { return nil }, false},
		"no commits": {func(oldCheckpoint) sink.Commits {
			return func(string) map[sink.TopicPartition]sink.Position { return nil }
		}, false},
		"commits that are not ahead": {func(o oldCheckpoint) sink.Commits { o.committed.Next = 10; return o.commits }, false},
		"another ledger":             {func(o oldCheckpoint) sink.Commits { o.committed.ID = "another"; return o.commits }, false},
		"another lineage":            {func(o oldCheckpoint) sink.Commits { o.committed.Lineage = "y"; return o.commits }, false},
		"a copy":                     {all, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.log")
			old := newOldCheckpoint(t, exactSpec(path))
			if c.copied {
				writeFile(t, path+"~", readFile(t, path))
				if err := os.Rename(path+"~", path); err != nil {
					t.Fatal(err)
				}
			}
			s := openExact(t, path, nil)
			l, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, c.commits(old))
			if err != nil || l.Next != 10 {
				t.Fatalf("got %+v, %v, want 10", l, err)
			}
			checkFile(t, path, lines(want(0, 0, 10)))
			mustWrite(t, s, records(0, 10, 5))
			mustClose(t, s)
			checkFile(t, path, lines(want(0, 0, 15)))
		})
	}
}

// TestOldCheckpointTruncatesNoCompleteFile checks that a file that was completed after the
// checkpoint was stored is never truncated.
func TestOldCheckpointTruncatesNoCompleteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 2000}
	old := newOldCheckpoint(t, spec)
	backup := readFile(t, path+filename.CheckpointSuffix)
	writeFile(t, path+filename.CheckpointSuffix, old.newest)
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	resume(t, s, 0)
	if err := s.Close(true); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+filename.CheckpointSuffix, backup)
	if s, err = openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g"}); err == nil {
		_, _ = s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, nil)
		mustClose(t, s)
	}
	equal(t, contents(t, completeFiles(t, path)...), want(0, 0, 100))
}

// TestNothingIsTruncatedBeforeResume checks that a due file, or the last file of a consumer,
// is not completed before a partition has resumed: until then the committed offsets are
// unknown, and completing the file would truncate it.
func TestNothingIsTruncatedBeforeResume(t *testing.T) {
	path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
	old := newOldCheckpoint(t, exactSpec(path))
	clk.t = time.Now().Add(3 * time.Hour)
	s := openAt(t, clk, path, &sink.Rotate{Every: time.Hour})
	s.(*fileSink).timer.Fire()
	clk.add(retention.DueGrace)
	runKeeper(s)
	mustFlush(t, s)
	if _, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, old.commits); err == nil {
		t.Error("no error")
	}
	mustClose(t, s)
	s = openAt(t, clk, path, &sink.Rotate{Every: time.Hour})
	if err := s.Close(true); err != nil {
		t.Fatal(err)
	}
	equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, 100))
}
