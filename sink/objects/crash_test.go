package objects

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/leader"
	"kcagent/sink"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/sinktest"
)

// TestCrashAtEveryEvent: an agent crashes at the n-th call of the store or commit, for each n, in each
// way: before the call has an effect, after it, or so that an upload takes effect later. The successor
// rotates differently. Each record is in one object then, on stores with and without conditional writes.
func TestCrashAtEveryEvent(t *testing.T) {
	for _, way := range []string{"before", "after", "late"} {
		t.Run(way, func(t *testing.T) {
			n := 0
			for more := true; more; n++ {
				bubble(t, func(t *testing.T) { more = crashAt(t, n, way) })
			}
			if n < 20 {
				t.Errorf("the agent has only %d events", n)
			}
		})
	}
}

// crashAt lets an agent crash at its n-th event. It returns false if it has less.
func crashAt(t *testing.T, n int, way string) bool {
	w := newWorld(t, 2, 12)
	w.store = storetest.NewMemory(n/2%2 == 0)
	w.spec.Key, w.spec.Rotate.Every = "{topic}/{time:15}/{partition}-{first}-{last}-{topic_id}", 24*time.Hour
	for _, log := range w.log {
		for i, r := range log {
			r.Time = r.Time.Add(time.Duration(i/2%2) * time.Hour)
		}
	}
	var events atomic.Int32
	crashes := func() bool { return int(events.Add(1)) == n+1 }
	late := make(chan struct{})
	var a *member
	a = w.join(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
		if !crashes() {
			return f
		}
		a.dead.Store(true)
		switch {
		case way == "after":
			f.After = storetest.ErrFault
		case way == "late" && c.Op == storetest.Put:
			f.After, f.Late = storetest.ErrFault, late
		default:
			f.Before = storetest.ErrFault
		}
		return f
	})
	a.crashes = func(string) bool { return crashes() }
	for i := 0; i < 6 && !a.dead.Load(); i++ {
		a.mustWrite(0, 2)
		a.mustWrite(1, 2)
		_ = a.flush(i%2 == 1)
		synctest.Wait()
	}
	for range 5 {
		if a.dead.Load() {
			break
		}
		_ = a.flush(true)
		synctest.Wait()
	}
	crashed := a.dead.Load()
	a.crash()
	if n%2 == 0 { // what was in flight arrives before or after the successor
		close(late)
		w.store.Wait()
	}
	b := w.join(nil)
	b.finish()
	if n%2 == 1 {
		close(late)
		w.store.Wait()
	}
	w.exactlyOnce()
	if t.Failed() {
		t.Fatalf("after a crash at event %d", n)
	}
	return crashed
}

// TestPlanIsCompletedByItsOwnSettings: after an edit, the objects of an open plan have the keys, format
// and compression of the plan; the next range follows the edited file.
func TestPlanIsCompletedByItsOwnSettings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		w.spec.Key, w.spec.Compression, w.spec.TimeZone = "{topic}/{time:15}/{partition}-{first}-{last}", sink.Gzip, "Europe/Berlin"
		a := w.join(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
			if c.Op == storetest.Put {
				f.Before = storetest.ErrFault
			}
			return f
		})
		a.mustWrite(0, 6)
		_ = a.sink.Flush(t.Context(), true)
		synctest.Wait()
		a.commit(partitionOf(0))
		synctest.Wait()
		a.crash()
		w.wantKeys()

		w.spec.Key, w.spec.Format, w.spec.Compression, w.spec.TimeZone = "new/{topic}/{time:15}/{partition}-{first}-{last}", sink.JSON, sink.Zstd, "UTC"
		b := w.join(nil)
		tp := partitionOf(0)
		if l, ok := b.sink.Limits(tp); !ok || l.Before != 6 {
			t.Errorf("the limits are %+v, %t, want records before 6", l, ok)
		}
		encoder := b.sink.Encoder(tp) // it stays valid
		at := w.log[tp][0].Time
		if !encoder.ValueOnly() || encoder.Window(at).From.IsZero() {
			t.Errorf("the encoder is not that of the plan")
		}
		b.mustWrite(0, 2)
		if c := b.commit(tp); c.Next != 0 || c.Plan == nil || c.Nonce != w.committed[tp].Nonce {
			t.Errorf("during the completion: %+v, want the open plan", c)
		}
		if o := b.sink.Objects().Partitions[tp]; o.First != 6 || o.Closed == nil || !o.Closed.Planned || o.Closed.Next != 6 || o.Closed.Records != 6 || o.Closed.Since.IsZero() {
			t.Errorf("while the plan is read, the sink shows %+v, %+v", o, o.Closed)
		}
		if err := b.flush(true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.wantKeys() // before the end of the range
		b.mustWrite(0, 100)
		if _, ok := b.sink.Limits(tp); ok {
			t.Error("the sink takes records while it completes a plan")
		}
		synctest.Wait()
		first := fmt.Sprintf("orders/23/0-%020d-%020d.gz", 0, 5)
		w.wantKeys(first)
		if err := b.flush(false); err != nil {
			t.Fatal(err)
		}
		if c := w.committed[tp]; c.Next != 6 || c.Plan != nil {
			t.Errorf("after the completion: %+v", c)
		}
		b.finish()
		if encoder.ValueOnly() {
			t.Errorf("the encoder is still that of the plan")
		}
		w.wantKeys(fmt.Sprintf("new/orders/22/0-%020d-%020d.jsonl.zst", 6, 9), first)
		_, data, _ := w.store.Content(first)
		if got := sinktest.Values(t, sink.Raw, unpack(t, first, data)); !slices.Equal(got, sinktest.Want(0, 0, 6)) {
			t.Errorf("the object of the plan has %q", got)
		}
		_, data, _ = w.store.Content(w.keys()[0])
		if got := sinktest.Values(t, sink.JSON, unpack(t, w.keys()[0], data)); !slices.Equal(got, sinktest.Want(0, 6, 4)) {
			t.Errorf("the object of the next range has %q", got)
		}
	})
}

// planned returns a world in which an agent has crashed after the commit of a plan, before its uploads.
func planned(t *testing.T, conditional bool, records int) *world {
	w := newWorld(t, 1, records)
	w.store = storetest.NewMemory(conditional)
	a := w.join(nil)
	a.mustWrite(0, records)
	_ = a.sink.Flush(t.Context(), true)
	synctest.Wait()
	w.committed[partitionOf(0)] = a.sink.Plan(partitionOf(0), sink.Position{})
	if w.committed[partitionOf(0)].Plan == nil {
		t.Fatal("there is no plan")
	}
	a.crash()
	return w
}

// TestCompletionEndsByPosition: records of the plan that retention or compaction removed do not keep
// it open. The object has the others, under the key of the plan.
func TestCompletionEndsByPosition(t *testing.T) {
	for name, removed := range map[string][]int{"none": nil, "first": {0, 1}, "last": {8, 9}, "middle": {4}, "all": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := planned(t, true, 10)
				tp := partitionOf(0)
				epoch := leader.NewEpoch(7)
				w.committed[tp].Plan.Epoch = epoch
				for _, i := range removed {
					w.log[tp][i] = nil
				}
				var log strings.Builder
				w.logTo(&log)
				b := w.join(nil)
				b.beyond = int64(len(removed))
				b.finish()
				if c := w.committed[tp]; c.Epoch != epoch {
					t.Errorf("the epoch of the commit is %v, want that of the plan", c.Epoch)
				}
				if len(removed) == 10 {
					w.wantKeys()
				} else {
					w.wantKeys(rangeKey(0, 0, 9))
				}
				w.exactlyOnce()
				warned := strings.Contains(log.String(), "were removed from Kafka")
				if warned != (len(removed) > 0) || warned && !strings.Contains(log.String(), fmt.Sprintf("records=%d planned=10", 10-len(removed))) {
					t.Errorf("the log has %s", log.String())
				}
				if !strings.Contains(log.String(), "open plan completed") {
					t.Errorf("the log has no completion: %s", log.String())
				}
			})
		})
	}
}

// TestShorterCopyReplacesNothing: the key is looked up before an upload, so that a copy from which
// records were removed does not replace the object, also without conditional writes.
func TestShorterCopyReplacesNothing(t *testing.T) {
	for _, conditional := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1, 10)
			w.store = storetest.NewMemory(conditional)
			a := w.join(nil)
			a.mustWrite(0, 10)
			_ = a.sink.Flush(t.Context(), true)
			synctest.Wait()
			a.commit(partitionOf(0))
			synctest.Wait()
			a.crash()
			removed := w.log[partitionOf(0)][0]
			w.log[partitionOf(0)][0] = nil
			w.join(nil).finish()
			w.log[partitionOf(0)][0] = removed
			w.exactlyOnce()
			if n := w.store.Writes(rangeKey(0, 0, 9)); n != 1 {
				t.Errorf("the object was written %d times", n)
			}
		})
	}
}

// TestCompletionAbortsUploads: a successor aborts what a crash has left of an upload, before its own;
// an agent that publishes its own plan has no reason to. The permission for it is not required.
func TestCompletionAbortsUploads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := planned(t, true, 10)
		if slices.ContainsFunc(w.store.Calls(), func(c storetest.Call) bool { return c.Op == storetest.Abort }) {
			t.Error("the first owner has aborted uploads")
		}
		var log strings.Builder
		w.logTo(&log)
		before := len(w.store.Calls())
		b := w.join(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
			if c.Op == storetest.Abort {
				f.Before = errDenied
			}
			return f
		})
		b.finish()
		var ops []string
		for _, c := range w.store.Calls()[before:] {
			ops = append(ops, c.Op)
		}
		if got := strings.Join(ops, " "); got != "head abort put" {
			t.Errorf("the calls are %s", got)
		}
		if !strings.Contains(log.String(), "unfinished uploads are not aborted") {
			t.Errorf("the log has %s", log.String())
		}
	})
}

// TestPlanThatCannotBeCompleted: the error names the range.
func TestPlanThatCannotBeCompleted(t *testing.T) {
	for name, change := range map[string]func(p *sink.Plan){
		"no key":              func(p *sink.Plan) { delete(p.Settings, planKey) },
		"no url":              func(p *sink.Plan) { delete(p.Settings, planURL) },
		"unknown compression": func(p *sink.Plan) { p.Settings[planCompression] = "lz9" },
		"unknown format":      func(p *sink.Plan) { p.Settings[planFormat] = "xml" },
		"unknown zone":        func(p *sink.Plan) { p.Settings[planZone] = "Mars/Olympus" },
		"invalid template":    func(p *sink.Plan) { p.Settings[planKey] = "{nothing}" },
		"another position":    func(p *sink.Plan) { p.First = 1 },
		"no range":            func(p *sink.Plan) { p.Next = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1, 10)
				plan := sink.Plan{Nonce: "n", Next: 5, Settings: maps.Clone(PlanSettings(w.spec))}
				change(&plan)
				m := w.open(nil)
				err := m.sink.Complete(t.Context(), partitionOf(0), sink.Position{}, plan)
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("offsets %d to %d of orders/0", plan.First, plan.Next-1)) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
