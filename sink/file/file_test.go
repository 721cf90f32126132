package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
)

// TestNamesAreSyncedBeforeTheCheckpoint checks that the names of the file and of new folders
// are durable before a checkpoint names the file, and that nothing is synced without need.
func TestNamesAreSyncedBeforeTheCheckpoint(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(filepath.Join(dir, "a/b/out.log")), fsys)
	got := fsys.Trace()
	for _, folder := range []string{"a", "b", filepath.Base(dir)} {
		at := slices.Index(got, "syncdir "+folder)
		if at < slices.Index(got, "chmod out.log") || at > slices.Index(got, "writeat out.log+checkpoint") {
			t.Errorf("folder %s: calls %q", folder, got)
		}
	}
	mustFlush(t, s)
	equal(t, fsys.Trace(), nil)
	mustWrite(t, s, records(0, 0, 3))
	mustFlush(t, s)
	equal(t, fsys.Trace(), []string{"write out.log", "datasync out.log"})
	mustWrite(t, s, records(0, 3, 3))
	mustFlush(t, s)
	equal(t, fsys.Trace(), []string{"write out.log", "datasync out.log"})
	mustClose(t, s)
}

// TestFailedFolderSyncIsRetried checks that a name that could not be synced loses no record,
// and fails the write.
func TestFailedFolderSyncIsRetried(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(filepath.Join(dir, "new/{topic}.log")), fsys)
	fsys.SetFault(func(op, _ string) error {
		if op == "syncdir" {
			return syscall.EIO
		}
		return nil
	})
	for range 2 {
		if err := write(t.Context(), s, records(0, 0, 3)); !errors.Is(err, syscall.EIO) || errors.Is(err, sink.ErrReopen) {
			t.Fatalf("got %v, want EIO and no loss", err)
		}
	}
	fsys.SetFault(nil)
	fsys.Trace()
	mustWrite(t, s, records(0, 0, 3))
	if got := fsys.Trace(); !slices.Contains(got, "syncdir new") || !slices.Contains(got, "syncdir "+filepath.Base(dir)) {
		t.Errorf("calls %q, want the two folders synced", got)
	}
	mustClose(t, s)
	checkFile(t, filepath.Join(dir, "new/orders.log"), lines(want(0, 0, 3)))
}

func TestDurabilityNoneSyncsNothing(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	path := filepath.Join(dir, "out.log")
	spec := fileSpec(path)
	spec.File.Durability = sink.None
	s := mustOpen(t, spec, fsys)
	mustWrite(t, s, records(0, 0, 3))
	fsys.Trace()
	mustFlush(t, s)
	equal(t, fsys.Trace(), nil)

	// Once durability is fsync, earlier records are synced with the others.
	if err := s.Update(fileSpec(path)); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	equal(t, fsys.Trace(), []string{"datasync out.log", "syncdir " + filepath.Base(dir)})
	mustClose(t, s)
}

// TestWriteDuringAFlush checks that a write does not wait for a flush that hangs in
// fdatasync, and that the flush does not cover the write.
func TestWriteDuringAFlush(t *testing.T) {
	dir, fsys := t.TempDir(), disktest.NewFaultFS()
	s := mustOpen(t, fileSpec(filepath.Join(dir, "out.log")), fsys)
	mustWrite(t, s, records(0, 0, 3))
	hanging, release := make(chan struct{}), make(chan struct{})
	fsys.SetFault(func(op, _ string) error {
		if op == "datasync" {
			close(hanging)
			<-release
		}
		return nil
	})
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush(t.Context(), false) }()
	<-hanging
	mustWrite(t, s, records(0, 3, 3))
	close(release)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	fsys.SetFault(nil)
	fsys.Trace()
	mustFlush(t, s)
	equal(t, fsys.Trace(), []string{"datasync out.log"})
	mustClose(t, s)
}

func TestModeOfNewFiles(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	existing := filepath.Join(dir, "old.log")
	if err := os.WriteFile(existing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := fileSpec(filepath.Join(dir, "{topic}.log"))
	spec.File.Mode = 0o664
	s := mustOpen(t, spec, nil)
	check := func(name string, mode fs.FileMode) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("mode of %s is %o, want %o", name, info.Mode().Perm(), mode)
		}
	}
	mustWrite(t, s, []sink.Record{{Topic: "first"}})
	check("first.log", 0o664) // independent of the umask
	spec.File.Mode = 0o600
	if err := s.Update(spec); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, []sink.Record{{Topic: "second"}})
	mustWrite(t, s, []sink.Record{{Topic: "old"}})
	check("second.log", 0o600)
	check("first.log", 0o664)
	check("old.log", 0o600)
	mustClose(t, s)
}

func TestModeOfNewFolders(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	for mode, folder := range map[sink.Mode]fs.FileMode{0o640: 0o750, 0o644: 0o755, 0o600: 0o700} {
		dir := t.TempDir()
		spec := fileSpec(filepath.Join(dir, "sub/out.log"))
		spec.File.Mode = mode
		mustClose(t, mustOpen(t, spec, nil))
		info, err := os.Stat(filepath.Join(dir, "sub"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != folder {
			t.Errorf("folder of a file with mode %v has %o, want %o", mode, info.Mode().Perm(), folder)
		}
	}
}

func TestLiteralPathOpensAtOnce(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, fileSpec(filepath.Join(dir, "deep/out.log")), nil))
	checkFile(t, filepath.Join(dir, "deep/out.log"), "")

	blocked := filepath.Join(dir, "deep/out.log/below.log")
	if _, err := openWith(t.Context(), fileSpec(blocked), testOptions{}); err == nil || !strings.Contains(err.Error(), blocked) {
		t.Errorf("got %v, want an error that names %s", err, blocked)
	}
	if _, err := openWith(t.Context(), fileSpec(dir), testOptions{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v for a folder", err)
	}
	// With a placeholder, nothing is opened yet.
	mustClose(t, mustOpen(t, fileSpec(filepath.Join(dir, "other/{topic}.log")), nil))
	if _, err := os.Stat(filepath.Join(dir, "other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder was created before the first record: %v", err)
	}
}

// TestFailedOpenIsRetried checks that a path that cannot be opened yet keeps its records
// back.
func TestFailedOpenIsRetried(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "orders"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, fileSpec(filepath.Join(dir, "{topic}/{partition}.log")), nil)
	if err := write(t.Context(), s, records(7, 0, 2)); err == nil {
		t.Fatal("a file in place of the folder is accepted")
	}
	mustFlush(t, s)
	if err := os.Remove(filepath.Join(dir, "orders")); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(7, 0, 2))
	mustClose(t, s)
	checkFile(t, filepath.Join(dir, "orders/7.log"), lines(want(7, 0, 2)))
}

func TestTopicCannotLeaveTheFolder(t *testing.T) {
	s := mustOpen(t, fileSpec(filepath.Join(t.TempDir(), "{topic}/x.log")), nil)
	for _, topic := range []string{"", ".", "..", "../x", "a/b", "a\x00"} {
		if err := write(t.Context(), s, []sink.Record{{Topic: topic}}); err == nil {
			t.Errorf("topic %q was written", topic)
		}
	}
	mustClose(t, s)
}
