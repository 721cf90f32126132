package file

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kcagent/leader"
	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/writer"
)

// at returns one record with a time.
func at(partition int32, offset int, t time.Time) []sink.Record {
	recs := records(partition, offset, 1)
	recs[0].Time = t
	return recs
}

// openWindows opens a sink whose path has the hour of the records, and resumes a partition.
func openWindows(t *testing.T, change func(*sink.FileSpec)) (s sink.Sink, dir string) {
	t.Helper()
	dir = t.TempDir()
	spec := exactSpec(filepath.Join(dir, "{time:2006-01-02T15}.log"))
	change(spec.File)
	s, err := openWith(t.Context(), spec, testOptions{Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(false) })
	resumeAt(t, s, 0, 0, "l")
	return s, dir
}

// resumeAt resumes a partition at an offset, as the caller does with windows.
func resumeAt(t *testing.T, s sink.Sink, partition int32, next int64, lineage string) {
	t.Helper()
	l := resume(t, s, partition)
	if l.Windows {
		if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: partition}, "", sink.Position{Next: next, Lineage: lineage}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecordsGoToTheFileOfTheirWindow, in the zone of the sink. A record without a timestamp is one
// of 1970.
func TestRecordsGoToTheFileOfTheirWindow(t *testing.T) {
	for _, delivery := range []sink.Delivery{sink.ExactlyOnce, sink.AtLeastOnce} {
		s, dir := openWindows(t, func(f *sink.FileSpec) { f.TimeZone, f.Delivery = "Asia/Kolkata", delivery })
		mustWrite(t, s, at(0, 0, time.Date(2026, 3, 9, 18, 29, 59, 0, time.UTC)))
		mustWrite(t, s, at(0, 1, time.Date(2026, 3, 9, 18, 30, 0, 0, time.UTC)))
		mustWrite(t, s, at(0, 2, time.Time{}))
		mustWrite(t, s, at(0, 3, time.Date(2026, 3, 9, 18, 0, 0, 0, time.UTC)))
		mustFlush(t, s)
		checkFile(t, filepath.Join(dir, "2026-03-09T23.log"), lines(want(0, 0, 1), want(0, 3, 1)))
		checkFile(t, filepath.Join(dir, "2026-03-10T00.log"), lines(want(0, 1, 1)))
		checkFile(t, filepath.Join(dir, "1970-01-01T05.log"), lines(want(0, 2, 1)))
	}
}

// TestOpenWindowsAreBounded: a partition has 32 open files at most, and a late record opens its file
// again.
func TestOpenWindowsAreBounded(t *testing.T) {
	s, dir := openWindows(t, func(*sink.FileSpec) {})
	for i := range 40 {
		mustWrite(t, s, at(0, i, windowBegin.Add(time.Duration(i)*time.Hour)))
	}
	if n := len(s.(*fileSink).writers()); n != maxWindows {
		t.Errorf("%d files are open, want %d", n, maxWindows)
	}
	mustWrite(t, s, at(0, 40, windowBegin))
	if n := len(s.(*fileSink).writers()); n != maxWindows {
		t.Errorf("%d files are open after a late record, want %d", n, maxWindows)
	}
	mustClose(t, s)
	checkFile(t, filepath.Join(dir, windowBegin.Format("2006-01-02T15.log")), lines(want(0, 0, 1), want(0, 40, 1)))
	for i := 1; i < 40; i++ {
		checkFile(t, filepath.Join(dir, windowBegin.Add(time.Duration(i)*time.Hour).Format("2006-01-02T15.log")), lines(want(0, i, 1)))
	}
}

// TestWindowsFollowTheLineage: records of the same lineage that the files have are dropped, and those
// of another one, which begins with a reset, are written. So are records that a later leader has
// written in place of others.
func TestWindowsFollowTheLineage(t *testing.T) {
	s, dir := openWindows(t, func(*sink.FileSpec) {})
	path := filepath.Join(dir, windowBegin.Format("2006-01-02T15.log"))
	write := func(from, n int) error {
		recs := records(0, from, n)
		for i := range recs {
			recs[i].Time = windowBegin
		}
		return write(t.Context(), s, recs)
	}
	if err := write(0, 5); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	resumeAt(t, s, 0, 2, "l")
	if err := write(2, 6); !errors.Is(err, sink.ErrReadAgain) {
		t.Errorf("a chunk from 2 to 8 of a file that ends at 5: %v", err)
	}
	if l, ok := s.Limits(sink.TopicPartition{Topic: "orders"}); l.Before != 5 || !ok {
		t.Errorf("the limits are %+v, %v", l, ok)
	}
	if err := errors.Join(write(2, 3), write(5, 3)); err != nil {
		t.Error(err)
	}
	if l, _ := s.Limits(sink.TopicPartition{Topic: "orders"}); l.Before != 0 {
		t.Errorf("the limits are %+v beyond the end of the file", l)
	}
	mustFlush(t, s)
	checkFile(t, path, lines(want(0, 0, 8)))
	replaced := sink.Chunk{TopicPartition: sink.TopicPartition{Topic: "orders"}, Data: []byte("replaced\n"), Next: 8, Count: 1, Time: windowBegin, Epoch: leader.NewEpoch(4)}
	for _, c := range []sink.Chunk{ // the second one is of another epoch than the file has
		{TopicPartition: replaced.TopicPartition, Data: []byte("new\n"), Next: 9, Count: 1, Time: windowBegin, Epoch: leader.NewEpoch(3)}, replaced,
	} {
		resumeAt(t, s, 0, c.Next-1, "l")
		if err := s.Write(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	mustFlush(t, s)
	checkFile(t, path, lines(want(0, 0, 8), []string{"new", "replaced"}))
	resumeAt(t, s, 0, 6, "another")
	if err := write(6, 2); err != nil {
		t.Error(err)
	}
	mustFlush(t, s)
	checkFile(t, path, lines(want(0, 0, 8), []string{"new", "replaced"}, want(0, 6, 2)))
}

// TestPartitionsShareTheFilesOfTheirWindows while they are closed, opened again and flushed at the
// same time.
func TestPartitionsShareTheFilesOfTheirWindows(t *testing.T) {
	const partitions, count = 4, 300
	s, dir := openWindows(t, func(f *sink.FileSpec) { f.Durability = sink.None })
	s.(*fileSink).maxWindows = 2
	hour := func(p int32, i int) time.Time { return windowBegin.Add(time.Duration(i*(3+int(p))%5) * time.Hour) }
	var writers sync.WaitGroup
	done := make(chan struct{})
	for p := range int32(partitions) {
		resumeAt(t, s, p, 0, "l")
		writers.Go(func() {
			for i := range count {
				if err := write(t.Context(), s, at(p, i, hour(p, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	flushed := make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				flushed <- nil
				return
			default:
				if err := s.Flush(t.Context(), false); err != nil {
					flushed <- err
					return
				}
			}
		}
	}()
	writers.Wait()
	close(done)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	expected := make(map[string][]string)
	for p := range int32(partitions) {
		for i := range count {
			name := fmt.Sprintf("%s of %d", hour(p, i).Format("2006-01-02T15.log"), p)
			expected[name] = append(expected[name], value(p, i))
		}
	}
	for name, values := range expected {
		file, p, _ := strings.Cut(name, " of ")
		got := strings.Split(strings.TrimSuffix(readFile(t, filepath.Join(dir, file)), "\n"), "\n")
		equal(t, slices.DeleteFunc(got, func(v string) bool { return !strings.HasPrefix(v, "p"+p+"-") }), values)
	}
}

// TestRandomHistoryOfWindows: records of two partitions are written, flushed and committed, in any
// order with faults of the disk, crashes and rebalances. In the end each is once in the file of its
// time.
func TestRandomHistoryOfWindows(t *testing.T) {
	for seed := range uint64(150) {
		h := windowHistory{T: t, random: rand.New(rand.NewPCG(seed, 9)), test: newWindowsTest(sink.Uncompressed, 1+int(seed%4))}
		h.test.buffer = seed%2 == 0
		h.open()
		for range 150 {
			h.step()
		}
		h.finish()
		h.test.checkWindows(t, fmt.Sprintf("seed %d: %q", seed, h.log))
	}
}

// A windowHistory is the state of [TestRandomHistoryOfWindows].
type windowHistory struct {
	*testing.T
	random *rand.Rand
	test   *crashTest
	sink   sink.Sink
	at     [crashPartitions]int64
	log    []string
}

func (h *windowHistory) open() {
	files := writer.NewPool(limits.NewBudget(8))
	if h.test.buffer {
		files.BufferFrom = 0
	}
	s, err := openWith(h.Context(), h.test.spec, testOptions{FS: h.test.fs, Group: "g", pool: files, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.Fatal(err)
	}
	s.(*fileSink).maxWindows = h.test.windows
	h.sink = s
	for p := range h.at {
		h.resume(p)
	}
}

// resume continues at what is committed, as a new round does.
func (h *windowHistory) resume(p int) {
	for {
		h.at[p] = max(0, h.test.committed[p])
		err := resumeWindows(h.T, h.sink, int32(p), h.at[p])
		h.log = append(h.log, fmt.Sprint("resume ", p, h.at[p], err))
		if err == nil {
			return
		}
		h.expected(err)
		h.test.fs.Fault = nil
	}
}

func (h *windowHistory) expected(err error) {
	if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, sink.ErrReopen) && !errors.Is(err, writer.ErrNoDescriptors) {
		h.Fatalf("%v after %q", err, h.log)
	}
}

func (h *windowHistory) write(p int) {
	n := min(1+h.random.IntN(7), crashRecords-int(h.at[p]))
	if n == 0 {
		return
	}
	n, err := h.test.write(h.T, h.sink, records(int32(p), int(h.at[p]), n))
	h.log = append(h.log, fmt.Sprint("write ", p, h.at[p], n, err))
	h.expected(err)
	switch {
	case err == nil:
		h.at[p] += int64(n)
	case errors.Is(err, sink.ErrReopen):
		h.resume(p)
	}
}

// flush flushes and, mostly, commits.
func (h *windowHistory) flush() {
	at := h.at
	err := h.sink.Flush(h.Context(), false)
	h.log = append(h.log, fmt.Sprint("flush ", err))
	h.expected(err)
	some, failed := errors.AsType[*sink.FlushError](err)
	if err != nil && !failed {
		return
	}
	commits := h.random.IntN(3) > 0
	for p := range at {
		var of error
		if failed {
			of = some.Failed[sink.TopicPartition{Topic: "orders", Partition: int32(p)}]
		}
		switch {
		case errors.Is(of, sink.ErrReopen):
			h.resume(p)
		case of == nil && commits:
			h.test.committed[p] = at[p]
		}
	}
}

func (h *windowHistory) step() {
	switch n := h.random.IntN(100); {
	case n < 60:
		h.write(h.random.IntN(crashPartitions))
	case n < 80:
		h.flush()
	case n < 86:
		odds := 1 + h.random.IntN(8)
		h.test.fs.Fault = func() error {
			if h.random.IntN(odds) == 0 {
				return syscall.EIO
			}
			return nil
		}
		h.log = append(h.log, fmt.Sprint("fault ", odds))
	case n < 92:
		h.test.fs.Fault = nil
	case n < 95:
		h.log = append(h.log, "rebalance")
		h.flush()
		h.expected(h.sink.Release())
		for p := range h.at {
			h.resume(p)
		}
	case n < 98:
		l := disktest.Losses[h.random.IntN(len(disktest.Losses))]
		h.log = append(h.log, "crash: "+l.Name)
		h.test.fs = h.test.fs.Crash(l)
		h.open()
	default:
		h.test.fs.Fault = nil
		h.log = append(h.log, "reopen")
		h.expected(h.sink.Close(false))
		h.open()
	}
}

func (h *windowHistory) finish() {
	h.test.fs.Fault = nil
	for slices.ContainsFunc(h.at[:], func(n int64) bool { return n < crashRecords }) {
		for p := range h.at {
			h.write(p)
		}
	}
	h.flush()
	if err := h.sink.Close(false); err != nil {
		h.Fatalf("%v after %q", err, h.log)
	}
}
