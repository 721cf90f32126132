package file

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk"
)

// TestSymbolicLinkIsFollowed checks that a path that is a link writes the target, and that
// rotate, which would rename the link, rejects it.
func TestSymbolicLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target.log"), filepath.Join(dir, "link.log")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	s := openExact(t, link, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	spec := exactSpec(link)
	spec.File.Rotate = &sink.Rotate{Size: 10}
	if err := s.Update(spec); err != nil {
		t.Fatal(err)
	}
	err := write(t.Context(), s, records(0, 3, 3))
	if err == nil || !strings.Contains(err.Error(), link) || !strings.Contains(err.Error(), "symbolic link cannot be combined with rotate") {
		t.Errorf("got %v", err)
	}
	if err := s.Update(exactSpec(link)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, target, lines(want(0, 0, 6)))
	if _, err := openWith(t.Context(), spec, testOptions{}); err == nil || !strings.Contains(err.Error(), "cannot be combined") {
		t.Errorf("got %v", err)
	}
}

// changeLink changes the target of a symbolic link, as ln -sfn does.
func changeLink(t *testing.T, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link+"~"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+"~", link); err != nil {
		t.Fatal(err)
	}
}

// TestLinkIsNotRenamedForCompression checks that a change of compression, which completes
// the file and would rename the link, is an error, and that the link stays.
func TestLinkIsNotRenamedForCompression(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "big", "out.log"), filepath.Join(dir, "out.log")
	if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	changeLink(t, target, link)
	s := openExact(t, link, nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	spec := exactSpec(link)
	spec.File.Compression = sink.Gzip
	if err := s.Update(spec); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := write(t.Context(), s, records(0, 3, 3)); err == nil || !strings.Contains(err.Error(), "a symbolic link cannot be combined with") {
			t.Errorf("got %v", err)
		}
	}
	if at, err := os.Readlink(link); err != nil || at != target {
		t.Errorf("the link leads to %q, %v", at, err)
	}
	if err := s.Update(exactSpec(link)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 3, 3))
	mustClose(t, s)
	checkFile(t, target, lines(want(0, 0, 6)))
}

// TestLinkSharesLockAndLedger checks that a path that is a link to the file of another sink
// has its lock and its ledger. If each file is parked while the other sink writes, a sink
// has to resume, and no record is lost or repeated.
func TestLinkSharesLockAndLedger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "orders.log")
	for _, sub := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	changeLink(t, "../a/orders.log", filepath.Join(dir, "b", "orders.log"))
	sinks := []sink.Sink{openExact(t, filepath.Join(dir, "a", "{topic}.log"), nil), openExact(t, filepath.Join(dir, "b", "{topic}.log"), nil)}
	resume := func(n int) (sink.Ledger, error) {
		return sinks[n].Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: int32(n)}, nil)
	}
	for round := range 3 {
		for n, s := range sinks {
			if round > 0 {
				if err := write(t.Context(), s, records(int32(n), 3*round, 3)); !errors.Is(err, sink.ErrReopen) {
					t.Fatalf("round %d: the file has records of the other sink, and a write returned %v", round, err)
				}
			}
			wantNext(t, s, int32(n), []int64{-1, 3, 6}[round])
			mustWrite(t, s, records(int32(n), 3*round, 3))
			if _, err := resume(1 - n); !errors.Is(err, disk.ErrLocked) {
				t.Fatalf("got %v, want ErrLocked", err)
			}
			mustFlush(t, s)
			park(t, s)
		}
	}
	for _, s := range sinks {
		mustClose(t, s)
	}
	got := contents(t, path)
	slices.Sort(got)
	equal(t, got, append(want(0, 0, 9), want(1, 0, 9)...))
}

// TestChangedLinkHasItsOwnLedger checks that a link that changes while the file is open or
// parked continues in the new target, whose ledger is empty. Flushed records stay in the old
// target.
func TestChangedLinkHasItsOwnLedger(t *testing.T) {
	for name, closed := range map[string]bool{"open": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			one, two, link := filepath.Join(dir, "one.log"), filepath.Join(dir, "two.log"), filepath.Join(dir, "link.log")
			changeLink(t, one, link)
			s := openExact(t, link, nil)
			wantNext(t, s, 0, -1)
			mustWrite(t, s, records(0, 0, 3))
			mustFlush(t, s)
			if closed {
				park(t, s)
			}
			changeLink(t, two, link)
			_ = s.Flush(t.Context(), false) // the flush may detect it first
			if err := write(t.Context(), s, records(0, 3, 3)); !errors.Is(err, sink.ErrReopen) {
				t.Fatalf("got %v, want ErrReopen", err)
			}
			wantNext(t, s, 0, -1)
			mustWrite(t, s, records(0, 0, 2))
			mustClose(t, s)
			checkFile(t, one, lines(want(0, 0, 3)))
			checkFile(t, two, lines(want(0, 0, 2)))
			s = openExact(t, one, nil)
			wantNext(t, s, 0, 3)
			mustClose(t, s)
		})
	}
}
