package spool

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
)

// TestTailsShareAFile: the tail of each frame overwrites the one before it, with what is shorter, too.
// It is lost if something else has shortened it.
func TestTailsShareAFile(t *testing.T) {
	fsys := disktest.NewFaultFS()
	folder := newFolder(t, t.TempDir())
	f := folder.On(fsys).New(sink.Zstd)
	var want bytes.Buffer
	for i, n := range []int{30_000, 30_000, 30_000, 50, 30_000, 30_000, 30_000, 10} {
		data := lines(n, i*100_000)
		want.Write(data)
		if err := f.Append(data); err != nil {
			t.Fatal(err)
		}
	}
	if got := plain(t, f); got != want.String() {
		t.Errorf("the body has %d bytes, want %d", len(got), want.Len())
	}
	for _, call := range fsys.Trace() {
		if strings.HasPrefix(call, "remove") || strings.HasPrefix(call, "truncate") {
			t.Errorf("an append has the call %q", call)
		}
	}
	if err := os.Truncate(f.tailPath(), f.tail-1); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(lines(10, 0)); !errors.Is(err, sink.ErrReopen) {
		t.Errorf("append to a tail that was shortened: %v", err)
	}
	f.Remove()
	if left := files(t, folder.path); len(left) != 1 { // its lock
		t.Errorf("the folder has %q", left)
	}
}
