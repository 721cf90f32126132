package file

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
	"kcagent/sink/sinktest"
)

var (
	records     = sinktest.Records
	want        = sinktest.Want
	value       = sinktest.Value
	values      = sinktest.Values
	ofPartition = sinktest.OfPartition
	equal       = sinktest.Equal
	write       = sinktest.Write
	writeLarge  = sinktest.WriteLarge
)

// testOptions are [sink.Options], and what only tests of the file sink set.
type testOptions struct {
	FS              disk.FS // nil is the real file system
	Log             *slog.Logger
	Now             func() time.Time
	Consumer, Group string
	Due             func()
	pool            *writer.Pool // nil is the pool of the process
}

func openWith(ctx context.Context, spec sink.Spec, o testOptions) (sink.Sink, error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.pool == nil {
		o.pool = writer.ProcessPool
	}
	return openOn(ctx, *spec.File, sink.Options{Log: o.Log, Now: o.Now, Consumer: o.Consumer, Group: o.Group, Due: o.Due}, o.FS, o.pool)
}

func fileSpec(path string) sink.Spec {
	return sink.Spec{File: &sink.FileSpec{Path: path, Format: sink.Raw, Durability: sink.Fsync, Mode: 0o640}}
}

func mustWrite(t *testing.T, s sink.Sink, recs []sink.Record) {
	t.Helper()
	if err := write(t.Context(), s, recs); err != nil {
		t.Fatal(err)
	}
}

// room returns how many bytes the next chunk of a partition should have.
func room(s sink.Sink, tp sink.TopicPartition) int {
	l, _ := s.Limits(tp)
	return l.Bytes
}

func mustFlush(t *testing.T, s sink.Sink) {
	t.Helper()
	if err := s.Flush(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t *testing.T, s sink.Sink) {
	t.Helper()
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
}

func lines(vs ...[]string) string {
	return strings.Join(slices.Concat(vs...), "\n") + "\n"
}

func checkFile(t *testing.T, path, want string) {
	t.Helper()
	if got := readFile(t, path); got != want {
		t.Errorf("%s holds\n%q, want\n%q", filepath.Base(path), got, want)
	}
}

func exactSpec(path string) sink.Spec {
	return sink.Spec{File: &sink.FileSpec{Path: path, Format: sink.Raw, Delivery: sink.ExactlyOnce, Durability: sink.Fsync, Mode: 0o640}}
}

func openExact(t *testing.T, path string, fsys disk.FS) sink.Sink {
	t.Helper()
	s, err := openWith(t.Context(), exactSpec(path), testOptions{FS: fsys, Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func resume(t *testing.T, s sink.Sink, partition int32) sink.Ledger {
	t.Helper()
	p, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: partition}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantNext(t *testing.T, s sink.Sink, partition int32, next int64) {
	t.Helper()
	if p := resume(t, s, partition); p.Next != next {
		t.Errorf("partition %d is at %d, want %d", partition, p.Next, next)
	}
}

// abandon ends a sink as the end of the process does: its locks are released, and nothing is
// flushed.
func abandon(t *testing.T, s sink.Sink) {
	t.Helper()
	s.(*fileSink).timer.Stop()
	s.(*fileSink).keeper.Stop(false)
	for _, w := range s.(*fileSink).writers() {
		if err := w.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
}

func mustOpen(t *testing.T, spec sink.Spec, fsys disk.FS) sink.Sink {
	t.Helper()
	s, err := openWith(t.Context(), spec, testOptions{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fileNames returns the names in a folder, sorted.
func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantRejected checks that opening fails with the path and the next step, and changes nothing.
func wantRejected(t *testing.T, path, cause string) {
	t.Helper()
	files := func() map[string]string {
		all := map[string]string{}
		for _, n := range fileNames(t, filepath.Dir(path)) {
			all[n] = readFile(t, filepath.Join(filepath.Dir(path), n))
		}
		return all
	}
	before := files()
	s, err := openWith(t.Context(), exactSpec(path), testOptions{Group: "g"})
	if err == nil {
		mustClose(t, s)
		t.Fatalf("opened, want an error with %q", cause)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), "move") {
		t.Errorf("the error is %q, want %q in it", err, cause)
	}
	after := files()
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s was changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("files are %d, were %d", len(after), len(before))
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

// isCheckpoint reports whether a path is that of a checkpoint.
func isCheckpoint(path string) bool { return strings.HasSuffix(path, filename.CheckpointSuffix) }

// A clock is set by the test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 26, 12, 10, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// openAt opens a sink with a clock.
func openAt(t *testing.T, c *clock, pattern string, r *sink.Rotate) sink.Sink {
	t.Helper()
	spec := exactSpec(pattern)
	spec.File.Rotate = r
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runKeeper lets the keeper do what is due, as its timer does.
func runKeeper(s sink.Sink) {
	for !s.(*fileSink).keeper.RunOnce() {
		time.Sleep(time.Millisecond) // the timer was faster, and may have begun too early
	}
}
