package objects

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink"
	"kcagent/sink/sinktest"
)

// at sets the timestamps of partition 0, each relative to that of the first record.
func (w *world) at(after ...time.Duration) {
	log := w.log[partitionOf(0)]
	first := log[0].Time
	for i, d := range after {
		log[i].Time = first.Add(d)
	}
}

// TestRotation: which ranges a number of records leads to, without a Flush of everything.
func TestRotation(t *testing.T) {
	const m = time.Minute
	for _, c := range []struct {
		name   string
		rotate sink.ObjectRotate
		times  []time.Duration // of the records
		wait   time.Duration   // after each chunk of one record
		large  int             // bytes that each value gets
		want   []int64         // ends of the ranges that are closed
	}{
		{"nothing is due", sink.ObjectRotate{Size: 1 << 20, Every: 10 * m}, []time.Duration{0, m, 2 * m, 9 * m}, time.Second, 0, nil},
		{"age by the clock", sink.ObjectRotate{Size: 1 << 20, Every: 10 * m}, make([]time.Duration, 12), 3 * m, 0, []int64{4, 8, 12}},
		{"age of the records", sink.ObjectRotate{Size: 1 << 20, Every: 10 * m}, []time.Duration{0, 4 * m, 10 * m, 11 * m, 20 * m, 21 * m, 22 * m}, 0, 0, []int64{3, 6}},
		{"late records have no age", sink.ObjectRotate{Size: 1 << 20, Every: 10 * m}, []time.Duration{0, -30 * m, -60 * m, 5 * m}, 0, 0, nil},
		{"a late first record", sink.ObjectRotate{Size: 1 << 20, Every: 10 * m}, []time.Duration{0, 10 * m, -60 * m, 20 * m}, 0, 0, []int64{2, 4}},
		{"late records by turns", sink.ObjectRotate{Size: 1 << 20, Every: 10 * m}, []time.Duration{-60 * m, 0, -60 * m, m, -60 * m, 2 * m, -60 * m, 12 * m, -60 * m, 13 * m}, 0, 0, []int64{2, 8}},
		{"size", sink.ObjectRotate{Size: 3000, Every: 10 * m}, make([]time.Duration, 8), 0, 1000, []int64{3, 6}},
		{"no limits", sink.ObjectRotate{}, make([]time.Duration, 8), 3 * m, 1000, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1, len(c.times))
				w.spec.Rotate = c.rotate
				if c.rotate.Every == 0 {
					w.spec.Rotate.Every = 24 * time.Hour
				}
				w.log[partitionOf(0)][0].Time = time.Now().Add(-time.Hour)
				w.at(c.times...)
				for _, r := range w.log[partitionOf(0)] {
					r.Value = append(r.Value, strings.Repeat(".", c.large)...)
				}
				a := w.join(nil)
				var ends []int64
				for range c.times {
					a.mustWrite(0, 1)
					time.Sleep(c.wait)
					synctest.Wait()
					for a.due.Swap(0) > 0 {
						before := w.committed[partitionOf(0)].Next
						if err := a.flush(false); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
						if next := w.committed[partitionOf(0)].Next; next > before {
							ends = append(ends, next)
						}
					}
				}
				if !slices.Equal(ends, c.want) {
					t.Errorf("the ranges end at %v, want %v", ends, c.want)
				}
				a.finish()
				w.exactlyOnce()
			})
		})
	}
}

// TestTimestampsInTheFuture: they count as the present, so a producer whose clock is wrong does not
// close the range with each of its records.
func TestTimestampsInTheFuture(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 6)
		w.log[partitionOf(0)][0].Time = time.Now()
		w.at(0, 24*time.Hour, 0, time.Hour, 0, 48*time.Hour)
		a := w.join(nil)
		for range 6 {
			a.mustWrite(0, 1)
			_ = a.flush(false)
			synctest.Wait()
			_ = a.flush(false)
		}
		if c := w.committed[partitionOf(0)]; c.Next > 0 || c.Plan != nil {
			t.Errorf("a range was closed: %+v is committed", c)
		}
		a.finish()
		w.wantKeys(rangeKey(0, 0, 5))
	})
}

// TestSizeIsThatOfTheCompressedObject: an object has at least rotate.size, compressed, and exceeds it
// by a chunk at most.
func TestSizeIsThatOfTheCompressedObject(t *testing.T) {
	const size, chunk = 64 << 10, 128 << 10
	for _, codec := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1, 40_000)
			w.spec.Rotate.Size, w.spec.Compression = size, codec
			a := w.join(nil)
			for range 400 {
				a.mustWrite(0, 1000)
				_ = a.flush(false)
				synctest.Wait()
			}
			a.finish()
			w.exactlyOnce()
			keys := w.keys()
			for _, key := range keys[:len(keys)-1] { // the last one is what remained
				if o, _, _ := w.store.Content(key); o.Size < size || o.Size > size+chunk {
					t.Errorf("%s: %s has %d bytes", codec, key, o.Size)
				}
			}
			if codec == sink.Uncompressed && len(keys) < 3 {
				t.Errorf("there are only %d objects", len(keys))
			}
		})
	}
}

// TestWindows: records of a window are in its object, late ones, too, in a further object of the range
// that they are read in. All objects of a range have its offsets in their keys.
func TestWindows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 8)
		w.spec.Key, w.spec.Rotate.Every = "{topic}/{time:15}/{partition}-{first}-{last}", 24*time.Hour
		const h = time.Hour
		w.at(0, h, 0, 2*h, h, -3*h, 0, 2*h)
		a := w.join(nil)
		for range 5 {
			a.mustWrite(0, 100)
		}
		if o := a.sink.Objects(); o.Open != 3 || o.Partitions[partitionOf(0)].Objects != 3 || o.Partitions[partitionOf(0)].Records != 5 || o.Spool == 0 {
			t.Errorf("the sink shows %+v", o)
		}
		_ = a.flush(true)
		synctest.Wait()
		for range 3 {
			a.mustWrite(0, 100)
		}
		a.finish()
		want := map[string][]int{"22 0-4": {0, 2}, "23 0-4": {1, 4}, "00 0-4": {3}, "19 5-7": {5}, "22 5-7": {6}, "00 5-7": {7}}
		if len(w.keys()) != len(want) {
			t.Errorf("the keys are %q", w.keys())
		}
		values := w.values()
		for name, offsets := range want {
			var hour string
			var first, last int
			if _, err := fmt.Sscanf(name, "%s %d-%d", &hour, &first, &last); err != nil {
				t.Fatal(err)
			}
			var records []string
			for _, o := range offsets {
				records = append(records, sinktest.Value(0, o))
			}
			if got := values[fmt.Sprintf("orders/%s/0-%020d-%020d", hour, first, last)]; !slices.Equal(got, records) {
				t.Errorf("the object %s has %q, want %q", name, got, records)
			}
		}
	})
}

// TestManyWindows: a range has 32 windows at most. A record of a further one is the first of the next
// range.
func TestManyWindows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 40)
		w.spec.Key, w.spec.Rotate.Every = "{topic}/{time:2006-01-02}/{partition}-{first}-{last}", 366*24*time.Hour
		var days []time.Duration
		for i := range 40 {
			days = append(days, -time.Duration(i)*24*time.Hour)
		}
		w.at(days...)
		a := w.join(nil)
		for range 40 {
			a.mustWrite(0, 100)
		}
		if n := a.due.Load(); n == 0 {
			t.Error("no flush was requested")
		}
		a.finish()
		w.exactlyOnce()
		first, second := 0, 0
		for _, key := range w.keys() {
			if strings.Contains(key, fmt.Sprintf("/0-%020d-%020d", 0, 31)) {
				first++
			}
			if strings.Contains(key, fmt.Sprintf("/0-%020d-%020d", 32, 39)) {
				second++
			}
		}
		if first != 32 || second != 8 {
			t.Errorf("%d and %d objects: %q", first, second, w.keys())
		}
	})
}

// TestWindowsWithTheSameKey: the hour that daylight saving time repeats is two windows, and one object.
func TestWindowsWithTheSameKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 3)
		w.spec.Key, w.spec.Rotate.Every, w.spec.TimeZone = "{topic}/{time:2006-01-02T15}/{partition}-{first}-{last}", 24*time.Hour, "Europe/Berlin"
		log := w.log[partitionOf(0)]
		for i := range log {
			log[i].Time = time.Date(2026, time.October, 25, i, 30, 0, 0, time.UTC) // 02:30, 02:30 and 03:30
		}
		a := w.join(nil)
		for range 3 {
			a.mustWrite(0, 1)
		}
		a.finish()
		w.exactlyOnce()
		w.wantKeys(fmt.Sprintf("orders/2026-10-25T02/0-%020d-%020d", 0, 2), fmt.Sprintf("orders/2026-10-25T03/0-%020d-%020d", 0, 2))
	})
}

// TestRecordsWithoutTimestamp: they belong to 1970-01-01.
func TestRecordsWithoutTimestamp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 4)
		w.spec.Key = "{topic}/{time:2006-01-02}/{partition}-{first}-{last}"
		for i := range 2 {
			w.log[partitionOf(0)][i].Time = time.Time{}
		}
		a := w.join(nil)
		for range 4 {
			a.mustWrite(0, 1)
		}
		a.finish()
		w.exactlyOnce()
		if k := w.keys(); len(k) != 2 || !strings.Contains(k[0], "/1970-01-01/") || !strings.Contains(k[1], "/2023-11-14/") {
			t.Errorf("the keys are %q", k)
		}
	})
}

// TestRangeWithoutRecords: it is not published, it grows. A flush of everything moves the position
// over it, without a plan and without an object.
func TestRangeWithoutRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		tp := partitionOf(0)
		for _, i := range []int{0, 1, 2, 5, 6, 7, 8, 9} {
			w.log[tp][i] = nil
		}
		a := w.join(nil)
		empty := func(next int64) {
			if err := a.sink.Write(t.Context(), sink.Chunk{TopicPartition: tp, Next: next}); err != nil {
				t.Fatal(err)
			}
			a.next[tp] = next
		}
		empty(2)
		if err := a.flush(false); err != nil || w.committed[tp].Next != 0 {
			t.Errorf("%v, the position is %d, want 0", err, w.committed[tp].Next)
		}
		if err := a.flush(true); err != nil || w.committed[tp].Next != 2 || w.committed[tp].Plan != nil {
			t.Errorf("%v, the commit is %+v, want offset 2", err, w.committed[tp])
		}
		a.mustWrite(0, 1) // the range begins at 2
		_ = a.flush(true)
		synctest.Wait()
		empty(4)
		empty(6)
		_ = a.flush(true) // it follows a range that is planned
		synctest.Wait()
		_ = a.flush(true)
		if c := w.committed[tp]; c.Next != 6 || c.Plan != nil {
			t.Errorf("the commit is %+v, want offset 6", c)
		}
		keys := w.keys()
		if len(keys) != 1 || keys[0] != rangeKey(0, 2, 3) && keys[0] != rangeKey(0, 2, 4) {
			t.Errorf("the keys are %q", keys)
		}
	})
}

// TestUpdate: rotation and compression of an edit apply to the next range.
func TestUpdate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 30)
		a := w.join(nil)
		a.mustWrite(0, 10)
		next := w.spec
		next.Compression, next.Rotate.Every = sink.Zstd, time.Minute
		next.Key = "another" // not applied: it requires a replace
		if err := a.sink.Update(sink.Spec{Objects: &next}); err != nil {
			t.Fatal(err)
		}
		a.mustWrite(0, 5)
		time.Sleep(2 * time.Minute)
		if err := a.flush(false); err != nil || w.committed[partitionOf(0)].Plan != nil {
			t.Errorf("%v, the range that grows has the plan %+v", err, w.committed[partitionOf(0)].Plan)
		}
		_ = a.flush(true)
		synctest.Wait()
		a.mustWrite(0, 5)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		_ = a.flush(false)
		synctest.Wait()
		_ = a.flush(false)
		if c := w.committed[partitionOf(0)]; c.Next != 20 && c.Plan == nil {
			t.Errorf("the next range is not complete after a minute: %+v", c)
		}
		a.finish()
		w.exactlyOnce()
		w.wantKeys(rangeKey(0, 0, 14), rangeKey(0, 15, 19)+".zst", rangeKey(0, 20, 29)+".zst")
	})
}

// TestClockSteps: a range is published in time, also if the clock is set back or forward while its
// partition has no more records.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1, 10)
			var shift atomic.Int64
			w.now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
			a := w.join(nil)
			a.mustWrite(0, 10)
			if err := a.flush(false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			shift.Store(int64(step))
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			flushes := 0
			for n := a.due.Swap(0); n > 0; n = a.due.Swap(0) {
				flushes += int(n)
				_ = a.flush(false)
				synctest.Wait()
			}
			if n := w.store.Writes(rangeKey(0, 0, 9)); n != 1 || flushes > 10 {
				t.Errorf("clock set by %s: %d flushes were requested, the store has %q", step, flushes, w.keys())
			}
		})
	}
}

// TestTimerRequestsAFlush: a range whose partition has no more records is closed in time.
func TestTimerRequestsAFlush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2, 10)
		a := w.join(nil)
		a.mustWrite(0, 10)
		time.Sleep(5 * time.Minute)
		a.mustWrite(1, 10)
		if err := a.flush(false); err != nil {
			t.Fatal(err)
		}
		o := a.sink.Objects().Partitions[partitionOf(1)]
		if !o.DueAt.Equal(o.Since.Add(10*time.Minute)) || !o.Since.Equal(time.Now()) {
			t.Errorf("shown as since %v, due at %v", o.Since, o.DueAt)
		}
		for i, wait := range []time.Duration{5*time.Minute + time.Second, 5 * time.Minute} {
			a.due.Store(0)
			time.Sleep(wait)
			synctest.Wait()
			if a.due.Load() == 0 {
				t.Fatalf("no flush was requested for partition %d", i)
			}
			_ = a.flush(false)
			synctest.Wait()
			_ = a.flush(false)
			synctest.Wait()
			if n := w.store.Writes(rangeKey(int32(i), 0, 9)); n != 1 {
				t.Errorf("partition %d is not published: %q", i, w.keys())
			}
			_ = a.flush(false)
		}
	})
}
