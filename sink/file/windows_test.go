package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kcagent/leader"
	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
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

// TestLossOfOneFileIsReported: if two files of a partition fail in one flush, and one of them has lost
// records, the partition has to resume, whichever file was flushed first.
func TestLossOfOneFileIsReported(t *testing.T) {
	for range 20 {
		m := disktest.NewFaultFS()
		spec := exactSpec(filepath.Join(t.TempDir(), "{time:15}.log"))
		s, err := openWith(t.Context(), spec, testOptions{FS: m, Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		resumeAt(t, s, 0, 0, "l")
		mustWrite(t, s, at(0, 0, windowBegin))
		mustWrite(t, s, at(0, 1, windowBegin.Add(time.Hour)))
		m.SetFault(fail(syscall.EIO, "datasync 22.log", "writeat 23.log+checkpoint"))
		err = s.Flush(t.Context(), false)
		if err := sink.PartitionError(err, sink.TopicPartition{Topic: "orders"}); !errors.Is(err, sink.ErrReopen) {
			t.Errorf("the partition gets %v", err)
		}
		m.SetFault(nil)
		resumeAt(t, s, 0, 0, "l")
		mustClose(t, s)
	}
}
