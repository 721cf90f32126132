package file

import (
	"path/filepath"
	"testing"

	"kcagent/sink"
)

// TestLedgerSurvivesARestart checks that the ledger keeps its partitions, with lineage and
// topic, and its ID.
func TestLedgerSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	first := resume(t, s, 0)
	if first.Next != -1 || first.ID == "" {
		t.Errorf("the new ledger is %+v", first)
	}
	at := sink.Position{Next: 10, Lineage: "L", Topic: sink.Identity{Cluster: "cluster", Topic: "topic", Brokers: "brokers"}}
	for p := range int32(3) {
		resume(t, s, p)
		if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: p}, first.ID, at); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, s, records(p, 10, 2))
	}
	mustClose(t, s)

	s = openExact(t, path, nil)
	at.Next = 12
	if got := resume(t, s, 2); got != (sink.Ledger{ID: first.ID, Position: at}) {
		t.Errorf("got %+v, want %+v", got, at)
	}
	mustWrite(t, s, records(2, 12, 1))
	mustClose(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 12) // was not resumed the last time
	// Only the position changes, also backwards.
	for _, next := range []int64{40, 5} {
		if err := s.Write(t.Context(), sink.Chunk{TopicPartition: sink.TopicPartition{Topic: "orders", Partition: 0}, Next: next}); err != nil {
			t.Fatal(err)
		}
		wantNext(t, s, 0, next)
	}
	mustClose(t, s)

	other, err := openWith(t.Context(), exactSpec(path), testOptions{Group: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if p := resume(t, other, 2); p.Next != -1 || p.ID == first.ID {
		t.Errorf("for another group the ledger is %+v", p)
	}
	mustWrite(t, other, records(0, 0, 1))
	mustClose(t, other)
	checkFile(t, path, lines(want(0, 10, 2), want(1, 10, 2), want(2, 10, 3), want(0, 0, 1)))
}

// TestAdoptedPositionIsDurable checks that an adopted position is in the ledger after the
// next flush, although no record was written, and that the ledger has the adopted ID.
func TestAdoptedPositionIsDurable(t *testing.T) {
	for name, pattern := range map[string]string{"one file": "out.log", "a file for each partition": "{topic}-{partition}.log"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), pattern)
			s := openExact(t, path, nil)
			resume(t, s, 4)
			at := sink.Position{Next: 100, Lineage: "L", Topic: sink.Identity{Cluster: "c", Topic: "t", Brokers: ""}}
			if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 4}, "a copy", at); err != nil {
				t.Fatal(err)
			}
			mustFlush(t, s)
			abandon(t, s)
			s = openExact(t, path, nil)
			if got := resume(t, s, 4); got != (sink.Ledger{ID: "a copy", Position: at}) {
				t.Errorf("got %+v", got)
			}
			mustClose(t, s)
		})
	}
}

// TestChangeOfDeliveryRepeatsNothing checks that at_least_once keeps no ledger, so that a
// later exactly_once starts a new one, and that the change loses and repeats no record.
func TestChangeOfDeliveryRepeatsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	abandon(t, s)
	s = mustOpen(t, fileSpec(path), nil)
	mustWrite(t, s, records(0, 3, 6))
	mustFlush(t, s)
	abandon(t, s)
	s = mustOpen(t, fileSpec(path), nil)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 9)))
	s = openExact(t, path, nil)
	wantNext(t, s, 0, -1)
	mustWrite(t, s, records(0, 9, 1))
	abandon(t, s)
	s = openExact(t, path, nil)
	mustWrite(t, s, records(0, 9, 1))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 10)))
}

// TestReleasedPartitionIsContinuedElsewhere checks that the files of single partitions are
// released, and continued where they ended.
func TestReleasedPartitionIsContinuedElsewhere(t *testing.T) {
	dir := t.TempDir()
	pattern := filepath.Join(dir, "{topic}-{partition}.log")
	s := openExact(t, pattern, nil)
	for p := range int32(2) {
		wantNext(t, s, p, -1)
	}
	mustWrite(t, s, records(0, 0, 3))
	mustWrite(t, s, records(1, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(1, 3, 3)) // not flushed: truncated
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	other := openExact(t, pattern, nil)
	wantNext(t, other, 1, 3)
	mustWrite(t, other, records(1, 3, 1))
	mustClose(t, other)
	wantNext(t, s, 0, 3)
	wantNext(t, s, 1, 4)
	mustWrite(t, s, records(1, 4, 1))
	mustClose(t, s)
	checkFile(t, filepath.Join(dir, "orders-1.log"), lines(want(1, 0, 5)))
	checkFile(t, filepath.Join(dir, "orders-0.log"), lines(want(0, 0, 3)))
}
