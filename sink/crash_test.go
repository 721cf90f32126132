package sink

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kcagent/limits"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A crashTest writes the records of two partitions into a file that may die at
// any call, as often as it is told, and then looks for each record.
type crashTest struct {
	gather    bool // small chunks wait for the flush
	large     bool // one record is written in pieces
	spec      Spec
	fs        *memoryFS
	committed [crashPartitions]int64 // what the broker holds; -1: nothing
	owner     [crashPartitions]string
}

const (
	crashPartitions = 2
	crashRecords    = 60 // of each
)

func newCrashTest(c Compression, r *Rotate) *crashTest {
	return &crashTest{
		fs: newMemoryFS(), committed: [crashPartitions]int64{-1, -1},
		spec: Spec{File: &FileSpec{
			Path: "/d/out.log", Format: Raw, Delivery: ExactlyOnce, Durability: Fsync, Compression: c, Rotate: r, Mode: 0o640,
		}},
	}
}

// run goes on from where the sink stands until all is written, or it dies.
func (c *crashTest) run(t *testing.T) (err error) {
	files := newOpenFiles(limits.NewBudget(10))
	if c.gather {
		files.manyFrom = 0
	}
	s, err := openWith(t.Context(), c.spec, testOptions{FS: c.fs, Group: "g", pool: files, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() {
		if !c.fs.dead && err != nil { // of a dead process nothing is left
			_ = s.Close(false)
		}
	}()
	var at [crashPartitions]int64
	for p := range at {
		place, err := s.Resume(t.Context(), TopicPartition{"orders", int32(p)}, nil)
		if err != nil {
			return err
		}
		if place.Next < c.committed[p] {
			t.Errorf("the sink stands at %d of partition %d, and %d is committed", place.Next, p, c.committed[p])
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
		if err := c.write(t, s, records(int32(p), int(at[p]), n)); err != nil {
			return err
		}
		at[p] += int64(n)
		if round%3 == 2 {
			if err := s.Flush(t.Context()); err != nil {
				return err
			}
			c.committed = at
		}
	}
	return s.Close(false)
}

// largeAt is the offset of the large record, which is in partition 0.
const largeAt = 20

// padding makes a record so large that it is written in pieces, also compressed.
var padding = func() string {
	b := make([]byte, 200<<10)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range b {
		b[i] = 'A' + byte(random.IntN(58))
	}
	return " " + string(b)
}()

// write writes records as one chunk, and the large record as a chunk of its own.
func (c *crashTest) write(t *testing.T, s Sink, recs []Record) error {
	at := slices.IndexFunc(recs, func(r Record) bool { return c.large && r.Partition == 0 && r.Offset == largeAt })
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

// check demands each record once, in order within its partition.
func (c *crashTest) check(t *testing.T, what string) {
	var all strings.Builder
	names := c.fs.list()
	for _, name := range append(slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return isSide(n) || n == "out.log"
	}), "out.log") {
		if f := c.fs.names["/d/"+name]; f != nil {
			all.WriteString(unpack(t, c.spec.File.Compression, f.data))
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

func unpack(t *testing.T, c Compression, data []byte) string {
	t.Helper()
	r := io.Reader(strings.NewReader(string(data)))
	var err error
	switch {
	case len(data) == 0:
	case c == Gzip:
		r, err = gzip.NewReader(r)
	case c == Zstd:
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r); err == nil {
			defer d.Close()
		}
		r = d
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCrashAtEveryCall stops before, and in the middle of, every single call
// that opening, writing, flushing and rotating make, with every kind of loss,
// and recovers.
func TestCrashAtEveryCall(t *testing.T) {
	for _, compression := range []Compression{Uncompressed, Gzip, Zstd} {
		for _, rotate := range []*Rotate{nil, {Size: 150}} {
			t.Run(fmt.Sprintf("%s/rotate=%v", compression, rotate != nil), func(t *testing.T) {
				t.Parallel()
				crashAtEveryCall(t, compression, rotate, false, false)
			})
		}
		t.Run(fmt.Sprintf("%s/large record", compression), func(t *testing.T) {
			t.Parallel()
			crashAtEveryCall(t, compression, nil, false, true)
		})
	}
	t.Run("gathered", func(t *testing.T) {
		t.Parallel()
		crashAtEveryCall(t, Uncompressed, &Rotate{Size: 150}, true, true)
	})
}

func crashAtEveryCall(t *testing.T, compression Compression, rotate *Rotate, gather, large bool) {
	t.Helper()
	newTest := func() *crashTest {
		c := newCrashTest(compression, rotate)
		c.gather, c.large = gather, large
		return c
	}
	whole := newTest()
	if err := whole.run(t); err != nil {
		t.Fatal(err)
	}
	whole.check(t, "no crash")
	for _, l := range losses {
		for at := 1; at <= whole.fs.calls; at++ {
			what := fmt.Sprintf("%s, call %d", l.name, at)
			c := newTest()
			c.fs.stopAt = at
			if err := c.run(t); !errors.Is(err, errDied) {
				t.Fatalf("%s: %v", what, err)
			}
			c.fs = c.fs.crash(l)
			if err := c.run(t); err != nil {
				t.Fatalf("%s: after it: %v", what, err)
			}
			c.check(t, what)
		}
	}
}

// TestFaultAtEveryCall fails every single call once, those that only ask included, as
// a disk or a network file system does that hiccups. Nothing is lost or repeated.
func TestFaultAtEveryCall(t *testing.T) {
	for _, compression := range []Compression{Uncompressed, Zstd} {
		for _, rotate := range []*Rotate{nil, {Size: 150}} {
			t.Run(fmt.Sprintf("%s/rotate=%v", compression, rotate != nil), func(t *testing.T) {
				t.Parallel()
				for at := 1; ; at++ {
					c := newCrashTest(compression, rotate)
					c.large = true
					c.fs.asking = true
					calls := 0
					c.fs.fault = func() error {
						if calls++; calls == at {
							return syscall.EIO
						}
						return nil
					}
					for range 3 { // what met the fault is tried again from the beginning
						if err := c.run(t); err == nil {
							break
						} else if !errors.Is(err, syscall.EIO) && !errors.Is(err, ErrLocked) {
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

// TestManyCrashes dies again and again at random calls, in recovery too.
func TestManyCrashes(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := newCrashTest([]Compression{Uncompressed, Gzip, Zstd}[random.IntN(3)], [](*Rotate){nil, {Size: 150}, {Size: 400}}[random.IntN(3)])
		c.gather, c.large = seed%2 == 0, seed%3 == 0
		var what []string
		for range 8 {
			c.fs.stopAt = 1 + random.IntN(60)
			if err := c.run(t); err == nil {
				break
			} else if !errors.Is(err, errDied) {
				t.Fatalf("seed %d after %q: %v", seed, what, err)
			}
			l := losses[random.IntN(len(losses))]
			what = append(what, fmt.Sprintf("%d %s", c.fs.stopAt, l.name))
			c.fs = c.fs.crash(l)
		}
		c.fs.stopAt, c.fs.dead = 0, false
		if err := c.run(t); err != nil {
			t.Fatalf("seed %d after %q: %v", seed, what, err)
		}
		c.check(t, fmt.Sprint("seed ", seed, what))
	}
}
