package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A clock is one that tests set.
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

// openAt opens a sink whose clock the test sets.
func openAt(t *testing.T, c *clock, pattern string, r *Rotate) Sink {
	t.Helper()
	spec := exactSpec(pattern)
	spec.File.Rotate = r
	s, err := Open(t.Context(), spec, Options{Consumer: "c", Group: "g", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tend has the keeper do what is due, as its timer does.
func tend(s Sink) {
	for !s.(*fileSink).keeper.start() {
		time.Sleep(time.Millisecond) // the timer was faster, and may have begun too early
	}
}

// TestClockSteps: a file is completed when its period has passed, also by a clock that
// was set forward, and at once by one that was set back behind the beginning of the
// period: it would else grow until the clock has caught up.
func TestClockSteps(t *testing.T) {
	for name, c := range map[string]struct {
		step     time.Duration
		complete int
	}{
		"within the period": {40 * time.Minute, 0},
		"the next period":   {time.Hour, 1},
		"a day ahead":       {24 * time.Hour, 1},
		"a little back":     {-5 * time.Minute, 0},
		"an hour back":      {-time.Hour, 1},
		"a year back":       {-365 * 24 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
			s := openAt(t, clk, path, &Rotate{Every: time.Hour})
			mustWrite(t, s, records(0, 0, 1))
			mustFlush(t, s)
			clk.add(c.step)
			mustFlush(t, s) // the alarm has it called within a minute
			if n := len(complete(t, path)); n != c.complete {
				t.Errorf("%d complete files, want %d", n, c.complete)
			}
			mustWrite(t, s, records(0, 1, 1))
			mustClose(t, s)
			equal(t, contents(t, append(complete(t, path), path)...), want(0, 0, 2))
		})
	}
}

// TestAlarm: it rings at the earliest time that is set, and soon after the clock was
// set back.
func TestAlarm(t *testing.T) {
	clk := newClock()
	a := &alarm{ring: func() {}, now: clk.now}
	at := clk.now().Add(time.Hour)
	a.set(at.Add(time.Hour))
	a.set(at)
	a.set(at.Add(time.Minute))
	if !a.at.Equal(at) {
		t.Errorf("it rings at %v, want %v", a.at, at)
	}
	rang := 0
	a.ring = func() { rang++ }
	a.fire()
	if rang != 0 {
		t.Error("it rang too early")
	}
	clk.add(-time.Second)
	a.fire()
	if rang != 1 {
		t.Error("it did not ring after the clock was set back")
	}
	a.reset(at)
	clk.add(2 * time.Hour)
	a.fire()
	if rang != 2 {
		t.Error("it did not ring in time")
	}
	a.stop()
}

// TestRotateIsSetLive: a period that is set while the file holds something applies to
// that file.
func TestRotateIsSetLive(t *testing.T) {
	path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
	s := openAt(t, clk, path, nil)
	mustWrite(t, s, records(0, 0, 1))
	mustFlush(t, s)
	spec := exactSpec(path)
	for i, every := range []time.Duration{time.Minute, time.Hour} {
		spec.File.Rotate = &Rotate{Every: every}
		if err := s.Update(spec); err != nil {
			t.Fatal(err)
		}
		clk.add(every)
		mustFlush(t, s)
		if n := len(complete(t, path)); n != i+1 {
			t.Errorf("%d complete files, want %d", n, i+1)
		}
		mustWrite(t, s, records(0, i+1, 1))
		mustFlush(t, s)
	}
	if at := s.(*fileSink).deadline(); !at.Equal(clk.now().Truncate(time.Hour).Add(time.Hour)) {
		t.Errorf("the next one is due at %v", at)
	}
	mustClose(t, s)
}

// TestRotateSizeHolds: a file is larger than rotate.size by less than its last
// record, however large the chunks that the caller could make, and though several
// partitions share it. A compressed one is by its last frame.
func TestRotateSizeHolds(t *testing.T) {
	for _, c := range []Compression{Uncompressed, Zstd} {
		for _, size := range []Size{64, 1 << 10, 100 << 10} {
			t.Run(fmt.Sprintf("%s/%d", c, size), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out.log")
				spec := exactSpec(path)
				spec.File.Rotate, spec.File.Compression = &Rotate{Size: size}, c
				s := mustOpen(t, spec, nil)
				total := 600 * int(size) / 64 / 10
				var at [2]int
				for at[0]+at[1] < total {
					for p := range at {
						limit, n := s.Room(TopicPartition{"orders", int32(p)}), 0
						if limit <= 0 || limit > 1<<20 {
							t.Fatalf("room is %d", limit)
						}
						for n = 1; n*len(value(0, 0)+"\n") < limit && n < 5000; n++ { // as the agent makes chunks
						}
						mustWrite(t, s, records(int32(p), at[p], n))
						at[p] += n
					}
				}
				mustClose(t, s)
				all := append(complete(t, path), path)
				for _, p := range all {
					info, err := os.Stat(p)
					if os.IsNotExist(err) {
						continue
					}
					most := int64(size) + 9
					if c != Uncompressed {
						most = int64(size) + leastFrame + 64
					}
					if info.Size() > most {
						t.Errorf("%s has %d bytes, want at most %d", filepath.Base(p), info.Size(), most)
					}
				}
				if n := len(contents(t, all...)); n != at[0]+at[1] {
					t.Errorf("%d records, want %d", n, at[0]+at[1])
				}
			})
		}
	}
}

// TestDeletedBeforeItIsComplete: what was accepted after another program deleted the
// file is in a new one, also if the file is to be completed before the next flush.
func TestDeletedBeforeItIsComplete(t *testing.T) {
	for _, why := range []string{"size", "compression"} {
		t.Run(why, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.log")
			spec := exactSpec(path)
			spec.File.Rotate = &Rotate{Size: 100}
			s := mustOpen(t, spec, nil)
			mustWrite(t, s, records(0, 0, 3))
			mustFlush(t, s)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, s, records(0, 3, 3))
			if why == "compression" {
				file := *spec.File
				file.Compression = Gzip
				if err := s.Update(Spec{File: &file}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 20 {
				mustWrite(t, s, records(0, 6+i, 1))
			}
			mustClose(t, s)
			equal(t, contents(t, append(complete(t, path), path)...), want(0, 3, 23))
		})
	}
}

// TestLastFilesAreCompleted: with rotate, a consumer that ends leaves complete files
// alone. An agent that ends does not complete them: it comes back.
func TestLastFilesAreCompleted(t *testing.T) {
	for _, end := range []bool{true, false} {
		for _, r := range []*Rotate{nil, {Size: 1000}, {Every: time.Hour}} {
			t.Run(fmt.Sprintf("end=%v rotate=%v", end, r), func(t *testing.T) {
				dir := t.TempDir()
				s := openAt(t, newClock(), filepath.Join(dir, "{partition}.log"), r)
				for p := range int32(3) {
					place(t, s, p)
					mustWrite(t, s, records(p, 0, 2))
				}
				if err := s.Close(end); err != nil {
					t.Fatal(err)
				}
				for p := range int32(3) {
					path := filepath.Join(dir, fmt.Sprintf("%d.log", p))
					wantComplete := 0
					if end && r != nil {
						wantComplete = 1
					}
					if n := len(complete(t, path)); n != wantComplete {
						t.Errorf("%d complete files of %s, want %d", n, filepath.Base(path), wantComplete)
					}
					equal(t, contents(t, append(complete(t, path), path)...), want(p, 0, 2))
				}
			})
		}
	}
}

// TestFilesOfPartitionsThatMovedAwayAreCompleted: by the clock, or, if there is only
// a size, a minute later. One that came back in time, or that another agent writes, is
// left alone.
func TestFilesOfPartitionsThatMovedAwayAreCompleted(t *testing.T) {
	for name, r := range map[string]*Rotate{"every": {Every: time.Hour}, "size": {Size: 1000}} {
		t.Run(name, func(t *testing.T) {
			dir, clk := t.TempDir(), newClock()
			pattern := filepath.Join(dir, "{partition}.log")
			s := openAt(t, clk, pattern, r)
			for p := range int32(3) {
				place(t, s, p)
				mustWrite(t, s, records(p, 0, 2))
			}
			mustFlush(t, s)
			if err := s.Release(); err != nil {
				t.Fatal(err)
			}
			place(t, s, 0) // came back
			other := openAt(t, clk, pattern, r)
			place(t, other, 1) // is written by another agent
			tend(s)
			for p := range int32(3) {
				if done := complete(t, filepath.Join(dir, fmt.Sprintf("%d.log", p))); len(done) != 0 {
					t.Errorf("completed at once: %q", done)
				}
			}
			clk.add(time.Hour)
			tend(s)
			for p, n := range []int{0, 0, 1} {
				path := filepath.Join(dir, fmt.Sprintf("%d.log", p))
				if done := complete(t, path); len(done) != n {
					t.Errorf("partition %d has %d complete files, want %d", p, len(done), n)
				}
			}
			mustClose(t, other)
			mustClose(t, s)
			for p := range int32(3) {
				path := filepath.Join(dir, fmt.Sprintf("%d.log", p))
				equal(t, contents(t, append(complete(t, path), path)...), want(p, 0, 2))
			}
		})
	}
}

// TestFilesThatWereLeftAreCompletedAfterAStart: of partitions and topics that are gone
// when the agent comes back, within its first minute.
func TestFilesThatWereLeftAreCompletedAfterAStart(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	pattern, r := filepath.Join(dir, "{topic}", "{partition}.log"), &Rotate{Every: time.Hour}
	s := openAt(t, clk, pattern, r)
	for p := range int32(2) {
		place(t, s, p)
		mustWrite(t, s, records(p, 0, 2))
	}
	mustClose(t, s)
	stranger := filepath.Join(dir, "orders", "7.log") // not written by this consumer
	setFile(t, stranger, "x\n")
	clk.t = time.Now().Add(2 * time.Hour) // behind the files' times of modification
	s = openAt(t, clk, pattern, r)
	place(t, s, 0)
	clk.add(time.Minute)
	tend(s)
	if n := len(complete(t, filepath.Join(dir, "orders", "1.log"))); n != 1 {
		t.Errorf("%d complete files of the partition that is gone, want 1", n)
	}
	checkFile(t, stranger, "x\n")
	mustClose(t, s)
}

// TestKeepCoversAllFilesOfTheConsumer: keep and keep_for apply to complete files of
// partitions that are assigned and of those that are gone, and to no file of another
// writer.
func TestKeepCoversAllFilesOfTheConsumer(t *testing.T) {
	for name, r := range map[string]*Rotate{"keep": {Size: 10, Keep: 2}, "keep_for": {Size: 10, KeepFor: 150 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			dir, clk := t.TempDir(), newClock()
			write6 := func(pattern, consumer string) {
				spec := exactSpec(pattern)
				spec.File.Rotate = &Rotate{Size: 10}
				s, err := Open(t.Context(), spec, Options{Consumer: consumer, Group: "g", Now: clk.now})
				if err != nil {
					t.Fatal(err)
				}
				for i := range 6 { // one an hour
					for p := range int32(2) {
						place(t, s, p)
						mustWrite(t, s, records(p, 2*i, 2))
					}
					clk.add(time.Hour)
				}
				mustClose(t, s)
				clk.add(-6 * time.Hour)
			}
			write6(filepath.Join(dir, "{partition}.log"), "c")
			write6(filepath.Join(dir, "{partition}.log.gz"), "c") // its names begin the same
			write6(filepath.Join(dir, "1{partition}.log"), "another")
			clk.add(6 * time.Hour)
			stranger := filepath.Join(dir, "0+20200101T000000.000Z.logx")
			setFile(t, stranger, "x\n")
			s := openAt(t, clk, filepath.Join(dir, "{partition}.log"), r)
			place(t, s, 0)
			clk.add(time.Minute)
			tend(s)
			keeps := 2
			if r.KeepFor > 0 {
				keeps = 3
			}
			for path, n := range map[string]int{"0.log": keeps, "1.log": keeps, "0.log.gz": 6, "1.log.gz": 6, "10.log": 6, "11.log": 6} {
				if got := complete(t, filepath.Join(dir, path)); len(got) != n {
					t.Errorf("%d complete files of %s, want %d: %q", len(got), path, n, got)
				}
			}
			if _, err := os.Stat(stranger); err != nil {
				t.Error(err)
			}
			mustClose(t, s)
		})
	}
}

// TestKeepFollowsRenamedConsumers: the complete files under the old name count once the
// path's partition is assigned, before the first listing of the folder or after it, also
// if no more records come.
func TestKeepFollowsRenamedConsumers(t *testing.T) {
	for _, before := range []bool{true, false} {
		dir, clk := t.TempDir(), newClock()
		open := func(consumer string, keep int) Sink {
			spec := exactSpec(filepath.Join(dir, "{partition}.log"))
			spec.File.Rotate = &Rotate{Size: 10, Keep: keep}
			s, err := Open(t.Context(), spec, Options{Consumer: consumer, Group: "g", Now: clk.now})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open("old", 0)
		for i := range 6 {
			place(t, s, 0)
			place(t, s, 1)
			mustWrite(t, s, records(0, 2*i, 2))
			mustWrite(t, s, records(1, 2*i, 2))
			clk.add(time.Second)
		}
		mustClose(t, s)
		other := filepath.Join(dir, "1.log")
		others := complete(t, other)
		s = open("new", 2)
		if before {
			place(t, s, 0)
		}
		clk.add(time.Minute)
		tend(s)
		if !before {
			place(t, s, 0)
			tend(s)
		}
		if got := complete(t, filepath.Join(dir, "0.log")); len(got) != 2 {
			t.Errorf("before %v: %d complete files, want 2: %q", before, len(got), got)
		}
		if got := complete(t, other); !slices.Equal(got, others) {
			t.Errorf("before %v: of a path that is not assigned the files %q are left, were %q", before, got, others)
		}
		mustClose(t, s)
	}
}

// TestKeepCoversFilesOfAnotherAgent: two agents share a folder, as in a blue/green
// roll-out. What the other one has completed counts once its partition is assigned here.
func TestKeepCoversFilesOfAnotherAgent(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	pattern := filepath.Join(dir, "{partition}.log")
	s := openAt(t, clk, pattern, &Rotate{Size: 10, Keep: 2})
	place(t, s, 0)
	clk.add(time.Minute)
	tend(s)
	other := openAt(t, clk, pattern, &Rotate{Size: 10})
	place(t, other, 1)
	for i := range 6 {
		mustWrite(t, other, records(1, 2*i, 2))
		clk.add(time.Minute)
	}
	mustClose(t, other)
	place(t, s, 1)
	clk.add(rescanEvery)
	tend(s)
	if got := complete(t, filepath.Join(dir, "1.log")); len(got) != 2 {
		t.Errorf("%d complete files, want 2: %q", len(got), got)
	}
	mustClose(t, s)
}

// TestKeepIsAppliedAfterEachFile: without listing the folder again.
func TestKeepIsAppliedAfterEachFile(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	path, fsys := filepath.Join(dir, "out.log"), &listingFS{osFS: osFS{}}
	spec := exactSpec(path)
	spec.File.Rotate = &Rotate{Size: 10, Keep: 3}
	s, err := Open(t.Context(), spec, Options{Consumer: "c", Group: "g", Now: clk.now, FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		mustWrite(t, s, records(0, 2*i, 2))
		clk.add(time.Second)
	}
	clk.add(time.Minute)
	tend(s)
	if got := complete(t, path); len(got) != 3 {
		t.Errorf("%d complete files, want 3: %q", len(got), got)
	}
	for i := range 50 {
		mustWrite(t, s, records(0, 100+2*i, 2))
		clk.add(time.Second)
	}
	tend(s)
	if got := complete(t, path); len(got) != 3 || !strings.Contains(got[2], clk.now().Add(-time.Second).Format("150405")) {
		t.Errorf("complete files are %q", got)
	}
	mustClose(t, s)
	if n := fsys.lists.Load(); n > 1 {
		t.Errorf("the folder was listed %d times, want once", n)
	}
}

// TestFilesAreCompletedWithoutAFlush: while the group has no generation, or a file is
// closed to save descriptors, the clock completes it all the same.
func TestFilesAreCompletedWithoutAFlush(t *testing.T) {
	for _, park := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed=%v", park), func(t *testing.T) {
			path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
			s := openAt(t, clk, path, &Rotate{Every: time.Hour})
			mustWrite(t, s, records(0, 0, 1))
			mustFlush(t, s)
			w := s.(*fileSink).only
			if park && !w.tryPark() {
				t.Fatal("not closed")
			}
			if at := s.(*fileSink).deadline(); !at.Equal(clk.now().Truncate(time.Hour).Add(time.Hour)) {
				t.Errorf("due at %v", at)
			}
			clk.add(time.Hour)
			s.(*fileSink).alarm.fire()
			tend(s)
			if n := len(complete(t, path)); n != 0 {
				t.Error("completed at once, want that a flush has some seconds for it")
			}
			clk.add(dueGrace)
			tend(s)
			if n := len(complete(t, path)); n != 1 {
				t.Errorf("%d complete files, want 1", n)
			}
			mustWrite(t, s, records(0, 1, 1))
			mustClose(t, s)
			equal(t, contents(t, append(complete(t, path), path)...), want(0, 0, 2))
		})
	}
}
