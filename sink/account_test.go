package sink

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestAccount: partitions are known again when they come back; another group,
// and another topic of the same name, are not.
func TestAccount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	if p := place(t, s, 0); p.Next != -1 || !OfAgent(p.Owner) || p.Renewed {
		t.Errorf("a new sink stands at %+v", p)
	}
	owner := place(t, s, 0).Owner
	for p := range int32(3) {
		mustWrite(t, s, records(p, 10, 2))
	}
	mustClose(t, s)

	s = openExact(t, path, nil)
	wantNext(t, s, 2, 12)
	if got := place(t, s, 1).Owner; got != owner {
		t.Errorf("the owner is %q, was %q", got, owner)
	}
	mustWrite(t, s, records(2, 12, 1))
	mustClose(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 12) // was not there the time before
	// The position alone moves, and back.
	for _, next := range []int64{40, 5} {
		if err := s.Write(t.Context(), Chunk{TopicPartition: TopicPartition{"orders", 0}, Next: next}); err != nil {
			t.Fatal(err)
		}
		wantNext(t, s, 0, next)
	}
	mustClose(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 5)
	for partition := range int32(2) {
		p, err := s.(Resumer).Resume(t.Context(), TopicPartition{"orders", partition}, Identity{"cluster", "made anew"})
		if err != nil || p.Next != -1 || !p.Renewed || p.Owner != owner {
			t.Errorf("in a topic made anew it stands at %+v, %v", p, err)
		}
	}
	mustClose(t, s)

	other, err := Open(t.Context(), exactSpec(path), Options{Group: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if p := place(t, other, 2); p.Next != -1 || p.Owner == owner {
		t.Errorf("for another group it stands at %+v", p)
	}
	mustWrite(t, other, records(0, 0, 1))
	mustClose(t, other)
	checkFile(t, path, lines(want(0, 10, 2), want(1, 10, 2), want(2, 10, 3), want(0, 0, 1)))
}

// TestChangeOfDelivery: at_least_once makes the checkpoint untrue, so it goes.
func TestChangeOfDelivery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(0, 3, 3))
	die(t, s)
	s = mustOpen(t, fileSpec(path), nil)
	mustWrite(t, s, records(0, 3, 6))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 9)))
	s = openExact(t, path, nil)
	wantNext(t, s, 0, -1)
	mustWrite(t, s, records(0, 9, 1))
	die(t, s)
	s = openExact(t, path, nil)
	mustWrite(t, s, records(0, 9, 1))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 10)))
}

// TestRelease: the files of single partitions are let go of, and taken up where
// they stood.
func TestRelease(t *testing.T) {
	dir := t.TempDir()
	pattern := filepath.Join(dir, "{topic}-{partition}.log")
	s := openExact(t, pattern, nil)
	for p := range int32(2) {
		wantNext(t, s, p, -1)
	}
	if names, _ := (osFS{}).List(dir); len(names) != 0 {
		t.Errorf("files %q before the first record", names)
	}
	mustWrite(t, s, records(0, 0, 3))
	mustWrite(t, s, records(1, 0, 3))
	mustFlush(t, s)
	mustWrite(t, s, records(1, 3, 3)) // not flushed: taken off
	if err := s.(Resumer).Release(); err != nil {
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
	if !slices.Equal(values(t, Raw, readFile(t, filepath.Join(dir, "orders-0.log"))), want(0, 0, 3)) {
		t.Error("partition 0 was changed")
	}
}
