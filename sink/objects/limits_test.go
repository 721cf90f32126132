package objects

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/sinktest"
)

// TestLimits: a partition takes chunks while at most one range is closed. Otherwise Ready says when it
// takes them again.
func TestLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 100)
		w.spec.Rotate.Size = 100
		var failing atomic.Bool
		failing.Store(true)
		a := w.join(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
			if failing.Load() && c.Op == storetest.Put {
				f.Before = storetest.ErrFault
			}
			return f
		})
		tp := partitionOf(0)
		if l, ok := a.sink.Limits(tp); !ok || l.Bytes != 100 || l.Before != 0 {
			t.Errorf("at first: %+v, %t", l, ok)
		}
		a.mustWrite(0, 4)
		if l, ok := a.sink.Limits(tp); !ok || l.Bytes != 60 {
			t.Errorf("with 40 bytes: %+v, %t", l, ok)
		}
		for range 20 {
			a.mustWrite(0, 4)
			_ = a.flush(false)
			synctest.Wait()
		}
		if _, ok := a.sink.Limits(tp); ok || a.next[tp] > 24 {
			t.Errorf("the sink takes chunks at offset %d", a.next[tp])
		}
		if a.ready.Load() != 0 {
			t.Error("Ready was called")
		}
		failing.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		_ = a.flush(false)
		synctest.Wait()
		if _, ok := a.sink.Limits(tp); !ok || a.ready.Load() != 1 {
			t.Errorf("after the upload: %t, Ready was called %d times", ok, a.ready.Load())
		}
		a.finish()
		w.exactlyOnce()
		for _, key := range w.keys() {
			if o, _, _ := w.store.Content(key); o.Size > 140 {
				t.Errorf("%s has %d bytes", key, o.Size)
			}
		}
	})
}

// TestCompressedObjectsHaveNoLimitOfBytes: how much a chunk adds is unknown before its compression.
func TestCompressedObjectsHaveNoLimitOfBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		w.spec.Compression = sink.Zstd
		a := w.join(nil)
		a.mustWrite(0, 4)
		if l, ok := a.sink.Limits(partitionOf(0)); !ok || l.Bytes != 0 {
			t.Errorf("got %+v, %t", l, ok)
		}
	})
}

// TestFlushBetweenLimitsAndWrite: a chunk for which Limits was called before a flush closed the range
// is accepted, as the first of a further range.
func TestFlushBetweenLimitsAndWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 9)
		a := w.join(func(_ context.Context, c storetest.Call) storetest.Fault {
			return storetest.Fault{Before: storetest.ErrFault}
		})
		e := a.sink.Encoder(partitionOf(0))
		for range 3 {
			if err := sinktest.WriteWith(t.Context(), a.sink, partitionOf(0), e, sinktest.Records(0, int(a.next[partitionOf(0)]), 3)); err != nil {
				t.Fatal(err)
			}
			a.next[partitionOf(0)] += 3
			_ = a.sink.Flush(t.Context(), true)
		}
		if _, ok := a.sink.Limits(partitionOf(0)); ok {
			t.Error("the sink takes chunks")
		}
		a.crash()
		w.join(nil).finish()
		w.exactlyOnce()
	})
}

// TestAtLeastOnce: there is no plan, a range is uploaded when it is closed. A plan that was open before
// the edit is completed.
func TestAtLeastOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := planned(t, true, 10)
		w.produce(0, 10)
		w.spec.Delivery = sink.AtLeastOnce
		a := w.join(nil)
		a.mustWrite(0, 10)
		synctest.Wait()
		w.wantKeys(rangeKey(0, 0, 9))
		_ = a.flush(true)
		a.mustWrite(0, 5)
		_ = a.sink.Flush(t.Context(), true)
		synctest.Wait()
		w.wantKeys(rangeKey(0, 0, 9), rangeKey(0, 10, 14))
		if c := a.commit(partitionOf(0)); c.Next != 15 || c.Plan != nil {
			t.Errorf("the commit is %+v", c)
		}
		a.mustWrite(0, 5)
		_ = a.sink.Flush(t.Context(), true)
		synctest.Wait() // it is uploaded, and the agent crashes before the commit
		a.crash()
		b := w.join(nil)
		b.mustWrite(0, 3)
		b.finish()
		seen := make(map[string]bool)
		for _, values := range w.values() {
			for _, v := range values {
				seen[v] = true
			}
		}
		if len(seen) != 20 {
			t.Errorf("%d of 20 records are in an object", len(seen))
		}
	})
}

// TestPositionMovesOverAGap: the range grows over offsets that the log does not have any more. A
// position that moves back requires that everything is published: otherwise records would get lost.
func TestPositionMovesOverAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 20)
		tp := partitionOf(0)
		a := w.join(nil)
		a.mustWrite(0, 5)
		for i := 5; i < 10; i++ {
			w.log[tp][i] = nil
		}
		if err := a.sink.Adopt(t.Context(), tp, "", sink.Position{Next: 10, Topic: w.topic}); err != nil {
			t.Fatal(err)
		}
		a.next[tp] = 10
		if c := a.commit(tp); c.Next != 0 {
			t.Errorf("the commit is %+v, want offset 0: records before are not published", c)
		}
		a.mustWrite(0, 5)
		err := a.sink.Adopt(t.Context(), tp, "", sink.Position{Next: 3, Topic: w.topic, Lineage: "new"})
		if !errors.Is(err, sink.ErrReopen) || !errors.Is(err, errUnpublished) {
			t.Errorf("a position that moves back: %v", err)
		}
		a.finish()
		w.exactlyOnce()
		if !slices.Contains(w.keys(), rangeKey(0, 0, 19)) {
			t.Errorf("the keys are %q", w.keys())
		}
		if err := a.sink.Adopt(t.Context(), tp, "", sink.Position{Next: 3, Topic: w.topic, Lineage: "new"}); err != nil {
			t.Errorf("after everything is published: %v", err)
		}
		if c := a.sink.Plan(tp, sink.Position{}); c.Next != 3 || c.Lineage != "new" {
			t.Errorf("the commit is %+v", c)
		}
	})
}

// TestGapWhileAPlanIsOpen: a position cannot move while a plan of the group is completed.
func TestGapWhileAPlanIsOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := planned(t, true, 10)
		a := w.join(nil)
		err := a.sink.Adopt(t.Context(), partitionOf(0), "", sink.Position{Next: 20, Topic: w.topic})
		if !errors.Is(err, sink.ErrReopen) {
			t.Errorf("got %v", err)
		}
	})
}
