package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/writer"
)

// A crashTest writes the records of two partitions to a file, over any number of crashes,
// and then searches for each record.
type crashTest struct {
	buffer    bool // small chunks are buffered until the flush
	large     bool // one record is written in pieces
	stride    int  // every call is tested, or only some of many
	windows   int  // how many files of a partition are open; 0 without {time:LAYOUT}
	spec      sink.Spec
	fs        *disktest.MemoryFS
	committed [crashPartitions]int64 // what Kafka has stored; -1: nothing
	owner     [crashPartitions]string
}

const (
	crashPartitions = 2
	crashRecords    = 60 // of each partition
)

func newCrashTest(c sink.Compression, r *sink.Rotate) *crashTest {
	return &crashTest{
		fs: disktest.NewMemoryFS(), stride: 1, committed: [crashPartitions]int64{-1, -1},
		spec: sink.Spec{File: &sink.FileSpec{
			Path: "/d/out.log", Format: sink.Raw, Delivery: sink.ExactlyOnce, Durability: sink.Fsync, Compression: c, Rotate: r, Mode: 0o640,
		}},
	}
}

// newWindowsTest returns a test that writes a file for each hour of the records.
func newWindowsTest(c sink.Compression, windows int) *crashTest {
	test := newCrashTest(c, nil)
	test.stride, test.windows, test.spec.File.Path = 7, windows, "/d/{time:2006/01/02/15}.log"
	return test
}

// run continues where the sink does, until all records are written, or the process dies.
func (c *crashTest) run(t *testing.T) (err error) {
	files := writer.NewPool(limits.NewBudget(10))
	if c.buffer {
		files.BufferFrom = 0
	}
	s, err := openWith(t.Context(), c.spec, testOptions{FS: c.fs, Group: "g", pool: files, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() {
		if !c.fs.Dead && err != nil { // a dead process leaves nothing to check
			_ = s.Close(false)
		}
	}()
	if c.windows > 0 {
		s.(*fileSink).maxWindows = c.windows
	}
	var at [crashPartitions]int64
	for p := range at {
		if c.windows > 0 {
			at[p] = max(0, c.committed[p])
			if err := resumeWindows(t, s, int32(p), at[p]); err != nil {
				return err
			}
			continue
		}
		place, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: int32(p)}, nil)
		if err != nil {
			return err
		}
		if place.Next < c.committed[p] {
			t.Errorf("the sink is at %d of partition %d, and %d is committed", place.Next, p, c.committed[p])
		}
		if c.committed[p] >= 0 && place.ID != c.owner[p] {
			t.Errorf("the ledger of partition %d changed its id", p)
		}
		at[p] = max(0, place.Next)
		c.owner[p] = place.ID
	}
	for round := 0; at[0] < crashRecords || at[1] < crashRecords; round++ {
		p := round % crashPartitions
		n := min(1+round%7, crashRecords-int(at[p]))
		if n == 0 {
			continue
		}
		if n, err = c.write(t, s, records(int32(p), int(at[p]), n)); err != nil {
			return err
		}
		at[p] += int64(n)
		if round%3 == 2 {
			if err := s.Flush(t.Context(), false); err != nil {
				return err
			}
			c.committed = at
		}
	}
	return s.Close(false)
}

// largeAt is the offset of the large record, which is in partition 0.
const largeAt = 20

// padding makes a record so large that it is written in several pieces, also if compressed.
var padding = func() string {
	b := make([]byte, 200<<10)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range b {
		b[i] = 'A' + byte(random.IntN(58))
	}
	return " " + string(b)
}()

// resumeWindows resumes a partition at the committed offset, as the caller does with {time:LAYOUT}.
func resumeWindows(t *testing.T, s sink.Sink, p int32, committed int64) error {
	t.Helper()
	tp := sink.TopicPartition{Topic: "orders", Partition: p}
	l, err := s.Resume(t.Context(), tp, nil)
	if err == nil && (!l.Windows || l.ID != "" || l.Next >= 0) {
		t.Errorf("the ledger of partition %d is %+v", p, l)
	}
	if err != nil {
		return err
	}
	return s.Adopt(t.Context(), tp, "", sink.Position{Next: committed, Lineage: "l"})
}

// write writes records as one chunk, and the large record as a chunk of its own. It returns how many
// it has written.
func (c *crashTest) write(t *testing.T, s sink.Sink, recs []sink.Record) (int, error) {
	if c.windows == 0 {
		return len(recs), c.writeAll(t, s, recs)
	}
	for {
		chunk := oneWindow(s, recs)
		err := c.writeAll(t, s, chunk)
		if !errors.Is(err, sink.ErrReadAgain) {
			return len(chunk), err
		}
		if l, _ := s.Limits(sink.TopicPartition{Topic: "orders", Partition: recs[0].Partition}); l.Before <= recs[0].Offset || l.Before >= recs[0].Offset+int64(len(chunk)) {
			t.Fatalf("the chunk from %d with %d records is to be read before %d", recs[0].Offset, len(chunk), l.Before)
		}
	}
}

// oneWindow gives records their times, and returns those at the beginning that may be in one chunk:
// they are of one window, and before the limit of the sink. Some records are late.
func oneWindow(s sink.Sink, recs []sink.Record) []sink.Record {
	tp := sink.TopicPartition{Topic: "orders", Partition: recs[0].Partition}
	limits, _ := s.Limits(tp)
	for i := range recs {
		r := &recs[i]
		r.Time = windowBegin.Add(time.Duration(r.Offset/9) * time.Hour)
		if r.Offset%5 == 3 {
			r.Time = windowBegin
		}
		w := s.Encoder(tp).Window(recs[0].Time)
		if i > 0 && (!w.Has(r.Time) || limits.Before > 0 && r.Offset >= limits.Before) {
			return recs[:i]
		}
	}
	return recs
}

var windowBegin = time.Date(2026, 11, 26, 22, 0, 0, 0, time.UTC)

func (c *crashTest) writeAll(t *testing.T, s sink.Sink, recs []sink.Record) error {
	at := slices.IndexFunc(recs, func(r sink.Record) bool { return c.large && r.Partition == 0 && r.Offset == largeAt })
	if at < 0 {
		return write(t.Context(), s, recs)
	}
	if at > 0 {
		if err := write(t.Context(), s, recs[:at]); err != nil {
			return err
		}
	}
	recs[at].Value = append(recs[at].Value, padding...)
	if err := writeLarge(t.Context(), s, &recs[at]); err != nil || at == len(recs)-1 {
		return err
	}
	return write(t.Context(), s, recs[at+1:])
}

// check checks that each record is there once, in order within its partition.
func (c *crashTest) check(t *testing.T, what string) {
	if c.windows > 0 {
		c.checkWindows(t, what)
		return
	}
	var all strings.Builder
	names := c.fs.FileNames()
	for _, name := range append(slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return isCheckpoint(n) || n == "out.log"
	}), "out.log") {
		if f := c.fs.Files["/d/"+name]; f != nil {
			all.WriteString(unpack(t, c.spec.File.Compression, f.Data))
		}
	}
	text := all.String()
	if c.large {
		text = strings.Replace(text, padding+"\n", "\n", 1)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for p := range int32(crashPartitions) {
		if got := ofPartition(lines, p); !slices.Equal(got, want(p, 0, crashRecords)) {
			t.Fatalf("%s: partition %d has %d records %q\nfiles %q", what, p, len(got), got, names)
		}
	}
}

// checkWindows checks that each record is once in the file of its time, and in order there.
func (c *crashTest) checkWindows(t *testing.T, what string) {
	t.Helper()
	want := make(map[string][]string)
	for p := range int32(crashPartitions) {
		for _, r := range records(p, 0, crashRecords) {
			r.Time = windowBegin.Add(time.Duration(r.Offset/9) * time.Hour)
			if r.Offset%5 == 3 {
				r.Time = windowBegin
			}
			name := r.Time.Format("/d/2006/01/02/15.log")
			want[name] = append(want[name], string(r.Value))
		}
	}
	for path, f := range c.fs.Files {
		if isCheckpoint(path) {
			continue
		}
		text := unpack(t, c.spec.File.Compression, f.Data)
		if c.large {
			text = strings.Replace(text, padding+"\n", "\n", 1)
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for p := range int32(crashPartitions) {
			if got := ofPartition(lines, p); !slices.Equal(got, ofPartition(want[path], p)) {
				t.Fatalf("%s: %s has of partition %d %q, want %q", what, path, p, got, ofPartition(want[path], p))
			}
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Fatalf("%s: no files with %q", what, want)
	}
}

func unpack(t *testing.T, c sink.Compression, data []byte) string {
	t.Helper()
	text, err := data, error(nil)
	switch {
	case len(data) == 0:
	case c == sink.Gzip:
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			text, err = io.ReadAll(r)
		}
	case c == sink.Zstd:
		text, err = zstdDecoder().DecodeAll(data, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// zstdDecoder returns a decoder for all tests: a new one takes megabytes, which the race detector
// makes slow.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil)
	if err != nil {
		panic(err) // there are no options
	}
	return d
})

// TestCrashAtEveryCall crashes before, and in the middle of, each call of opening, writing,
// flushing and rotating, with each kind of loss, and recovers. With many files, it does so at every
// seventh call.
func TestCrashAtEveryCall(t *testing.T) {
	for _, compression := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		for _, rotate := range []*sink.Rotate{nil, {Size: 150}} {
			t.Run(fmt.Sprintf("%s/rotate=%v", compression, rotate != nil), func(t *testing.T) {
				t.Parallel()
				crashAtEveryCall(t, func() *crashTest { return newCrashTest(compression, rotate) })
			})
		}
		t.Run(fmt.Sprintf("%s/large record", compression), func(t *testing.T) {
			t.Parallel()
			crashAtEveryCall(t, func() *crashTest {
				c := newCrashTest(compression, nil)
				c.large = true
				return c
			})
		})
	}
	t.Run("windows", func(t *testing.T) {
		t.Parallel()
		crashAtEveryCall(t, func() *crashTest { return newWindowsTest(sink.Uncompressed, 2) })
	})
	t.Run("gathered", func(t *testing.T) {
		t.Parallel()
		crashAtEveryCall(t, func() *crashTest {
			c := newCrashTest(sink.Uncompressed, &sink.Rotate{Size: 150})
			c.buffer, c.large = true, true
			return c
		})
	})
}

func crashAtEveryCall(t *testing.T, newTest func() *crashTest) {
	t.Helper()
	whole := newTest()
	if err := whole.run(t); err != nil {
		t.Fatal(err)
	}
	whole.check(t, "no crash")
	for _, l := range disktest.Losses {
		for at := 1; at <= whole.fs.Calls; at += whole.stride {
			what := fmt.Sprintf("%s, call %d", l.Name, at)
			c := newTest()
			c.fs.StopAt = at
			if err := c.run(t); !errors.Is(err, disktest.ErrDied) {
				t.Fatalf("%s: %v", what, err)
			}
			c.fs = c.fs.Crash(l)
			if err := c.run(t); err != nil {
				t.Fatalf("%s: after it: %v", what, err)
			}
			c.check(t, what)
		}
	}
}

// TestFaultAtEveryCall fails each call once, also calls that only read, as a disk or a
// network file system does. No record is lost or repeated.
func TestFaultAtEveryCall(t *testing.T) {
	for _, compression := range []sink.Compression{sink.Uncompressed, sink.Zstd} {
		for name, newTest := range map[string]func() *crashTest{
			"rotate=false": func() *crashTest { return newCrashTest(compression, nil) },
			"rotate=true":  func() *crashTest { return newCrashTest(compression, &sink.Rotate{Size: 150}) },
			"windows":      func() *crashTest { return newWindowsTest(compression, 3) },
		} {
			t.Run(fmt.Sprintf("%s/%s", compression, name), func(t *testing.T) {
				t.Parallel()
				for at := 1; ; at += newTest().stride {
					c := newTest()
					c.large = true
					c.fs.FaultReads = true
					calls := 0
					c.fs.Fault = func() error {
						if calls++; calls == at {
							return syscall.EIO
						}
						return nil
					}
					for range 3 { // what failed is tried again from the beginning
						if err := c.run(t); err == nil {
							break
						} else if !errors.Is(err, syscall.EIO) && !errors.Is(err, disk.ErrLocked) {
							t.Fatalf("call %d: %v", at, err)
						}
					}
					c.check(t, fmt.Sprint("call ", at))
					if calls < at {
						return
					}
				}
			})
		}
	}
}

// TestRepeatedCrashes crashes again and again at random calls, also during recovery.
func TestRepeatedCrashes(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := newCrashTest([]sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd}[random.IntN(3)], [](*sink.Rotate){nil, {Size: 150}, {Size: 400}}[random.IntN(3)])
		if seed%4 == 3 {
			c = newWindowsTest(c.spec.File.Compression, 1+random.IntN(8))
		}
		c.buffer, c.large = seed%2 == 0, seed%3 == 0
		var what []string
		for range 8 {
			c.fs.StopAt = 1 + random.IntN(60)
			if err := c.run(t); err == nil {
				break
			} else if !errors.Is(err, disktest.ErrDied) {
				t.Fatalf("seed %d after %q: %v", seed, what, err)
			}
			l := disktest.Losses[random.IntN(len(disktest.Losses))]
			what = append(what, fmt.Sprintf("%d %s", c.fs.StopAt, l.Name))
			c.fs = c.fs.Crash(l)
		}
		c.fs.StopAt, c.fs.Dead = 0, false
		if err := c.run(t); err != nil {
			t.Fatalf("seed %d after %q: %v", seed, what, err)
		}
		c.check(t, fmt.Sprint("seed ", seed, what))
	}
}
