package objects

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/sinktest"
)

func TestMain(m *testing.M) {
	compress.AppendFrame(sink.Zstd, nil, nil) // the encoder is shared, and must not belong to the bubble of a test
	goleak.VerifyTestMain(m)
}

// bubble runs a test with a clock of its own, so that it does not wait for backoffs.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// keys returns the keys in the store.
func (w *world) keys() []string { return w.store.Keys() }

func (w *world) wantKeys(want ...string) {
	w.Helper()
	if got := w.keys(); !slices.Equal(got, want) {
		w.Fatalf("the store has %q, want %q", got, want)
	}
}

// TestStatesOfARange: nothing is visible before the plan is committed, and the position is committed
// once all objects are uploaded.
func TestStatesOfARange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		m := w.join(nil)
		tp := partitionOf(0)
		if c := m.commit(tp); c.Next != 0 || c.Plan != nil || c.Nonce == "" {
			t.Errorf("before the first record: %+v, want a commit of offset 0 without a plan", c)
		}
		m.mustWrite(0, 4)
		m.mustWrite(0, 1)
		if err := m.flush(false); err != nil || m.committed[tp].Plan != nil {
			t.Errorf("%v, a range that is not complete has the plan %+v", err, m.committed[tp].Plan)
		}
		if err := m.sink.Flush(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c := m.sink.Plan(tp, sink.Position{Next: 5})
		if p := c.Plan; c.Next != 0 || p == nil || p.First != 0 || p.Next != 5 || p.Records != 5 || p.Nonce == "" || p.Nonce != c.Nonce {
			t.Fatalf("the commit is %+v with plan %+v, want offset 0 with a plan for 0 to 4", c, c.Plan)
		}
		if !maps.Equal(c.Plan.Settings, PlanSettings(w.spec)) {
			t.Errorf("the settings are %v", c.Plan.Settings)
		}
		if again := m.sink.Plan(tp, sink.Position{Next: 5}); again.Nonce != c.Nonce || again.Plan != c.Plan {
			t.Errorf("the next call returns %+v, want the same", again)
		}
		w.wantKeys()
		m.sink.Publish(tp, c)
		synctest.Wait()
		w.wantKeys(rangeKey(0, 0, 4))
		before := m.sink.Plan(tp, sink.Position{Next: 5})
		m.sink.Publish(tp, c) // again, as after a read back
		if again := m.sink.Plan(tp, sink.Position{Next: 5}); again.Nonce != before.Nonce {
			t.Errorf("another commit has changed the next one from %+v to %+v", before, again)
		}
		var ops []string
		for _, call := range w.store.Calls() {
			ops = append(ops, call.Op)
		}
		if got := strings.Join(ops, " "); got != "head head put" { // the probe, then the upload
			t.Errorf("the calls are %s", got)
		}
		if done := m.commit(tp); done.Next != 5 || done.Plan != nil || done.Nonce == c.Nonce {
			t.Errorf("after the upload: %+v, want offset 5 without a plan", done)
		}
		if got := w.values()[rangeKey(0, 0, 4)]; !slices.Equal(got, sinktest.Want(0, 0, 5)) {
			t.Errorf("the object has %q", got)
		}
		if n := m.sink.Objects().Spool; n != 0 {
			t.Errorf("%d bytes are in the spool", n)
		}
		if n := w.store.Writes(rangeKey(0, 0, 4)); n != 1 {
			t.Errorf("uploaded %d times", n)
		}
	})
}

// TestNothingIsPublishedWithoutACommit: neither Flush nor the end of the sink publish anything, and a
// Publish of another commit does not either.
func TestNothingIsPublishedWithoutACommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		m := w.join(nil)
		m.mustWrite(0, 10)
		_ = m.sink.Flush(t.Context(), true)
		synctest.Wait()
		c := m.sink.Plan(partitionOf(0), sink.Position{})
		other := *c.Plan
		other.Nonce = "other"
		m.sink.Publish(partitionOf(0), sink.Commit{Position: c.Position, Plan: &other, Nonce: "other"})
		synctest.Wait()
		if err := m.sink.Release(); err != nil {
			t.Fatal(err)
		}
		m.sink.Publish(partitionOf(0), c) // too late
		synctest.Wait()
		w.wantKeys()
		if c := m.sink.Plan(partitionOf(0), sink.Position{Next: 10}); c.Next != -1 {
			t.Errorf("a released partition has the commit %+v, want none", c)
		}
		if err := m.write(0, 1); err != nil && !errors.Is(err, sink.ErrReopen) {
			t.Errorf("a write to a released partition: %v", err)
		}
	})
}

// TestMergedCommit: if the next range is closed and looked up when the uploads end, its plan is
// committed together with the position; otherwise the position is committed alone.
func TestMergedCommit(t *testing.T) {
	for name, ready := range map[string]bool{"next range is closed": true, "next range grows": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1, 10)
				m := w.join(nil)
				tp := partitionOf(0)
				m.mustWrite(0, 5)
				_ = m.sink.Flush(t.Context(), true)
				synctest.Wait()
				first := m.sink.Plan(tp, sink.Position{})
				m.mustWrite(0, 5)
				if ready {
					_ = m.sink.Flush(t.Context(), true)
					synctest.Wait()
				}
				m.sink.Publish(tp, first)
				synctest.Wait()
				w.wantKeys(rangeKey(0, 0, 4))
				c := m.sink.Plan(tp, sink.Position{})
				if c.Next != 5 || (c.Plan != nil) != ready {
					t.Fatalf("got %+v", c)
				}
				if !ready { // it is the same also if the range is closed meanwhile
					_ = m.sink.Flush(t.Context(), true)
					synctest.Wait()
					if again := m.sink.Plan(tp, sink.Position{}); again.Nonce != c.Nonce || again.Plan != nil {
						t.Errorf("then %+v", again)
					}
					m.sink.Publish(tp, c)
					c = m.sink.Plan(tp, sink.Position{})
				}
				w.wantKeys(rangeKey(0, 0, 4))
				m.sink.Publish(tp, c)
				synctest.Wait()
				w.wantKeys(rangeKey(0, 0, 4), rangeKey(0, 5, 9))
			})
		})
	}
}

// TestPositionFollowsEveryObject: the offset after a range with two windows is committed after both objects
// are uploaded.
func TestPositionFollowsEveryObject(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 4)
		w.spec.Key = "{topic}/{time:15}/{partition}-{first}-{last}"
		tp := partitionOf(0)
		for i, r := range w.log[tp] {
			r.Time = r.Time.Add(time.Duration(i%2) * time.Hour)
		}
		w.spec.Rotate.Every = 24 * time.Hour
		var failing atomic.Bool
		failing.Store(true)
		m := w.join(func(_ context.Context, c storetest.Call) storetest.Fault {
			if failing.Load() && c.Op == storetest.Put && strings.Contains(c.Key, "/23/") {
				return storetest.Fault{Before: storetest.ErrFault}
			}
			return storetest.Fault{}
		})
		for range 4 {
			m.mustWrite(0, 4)
		}
		_ = m.sink.Flush(t.Context(), true)
		synctest.Wait()
		m.commit(tp)
		synctest.Wait()
		if c := m.sink.Plan(tp, sink.Position{}); c.Next != 0 || c.Plan == nil {
			t.Errorf("with one of two objects: %+v, want the plan that is committed", c)
		}
		err := m.sink.Flush(t.Context(), false)
		if cause := sink.PartitionError(err, tp); !errors.Is(cause, storetest.ErrFault) {
			t.Errorf("Flush: %v, want the error of the upload", err)
		}
		u := m.sink.Objects().Partitions[tp].Closed
		if u == nil || u.Objects != 2 || u.Uploaded != 1 || !u.Planned || u.Error == "" || u.Retry.IsZero() {
			t.Errorf("the upload is shown as %+v", u)
		}
		failing.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := m.sink.Flush(t.Context(), false); err != nil {
			t.Errorf("Flush after the upload: %v", err)
		}
		if c := m.commit(tp); c.Next != 4 {
			t.Errorf("after the upload: %+v", c)
		}
		w.exactlyOnce()
	})
}

// TestOtherObjectUnderTheKey: an object with other records is never adopted or replaced. If the
// object is found before the plan is committed, there is an error and no plan, so that an edit of the
// template helps.
func TestOtherObjectUnderTheKey(t *testing.T) {
	same := map[string]string{
		metaCluster: "cluster-1", metaTopicID: "topicid-1", metaTopic: "orders", metaPartition: "0", metaFirst: "0", metaLast: "9",
	}
	for name, change := range map[string]func(meta map[string]string){
		"same identity": func(map[string]string) {},
		"cluster":       func(m map[string]string) { m[metaCluster] = "cluster-2" },
		"topic id":      func(m map[string]string) { m[metaTopicID] = "topicid-2" },
		"topic":         func(m map[string]string) { m[metaTopic] = "refunds" },
		"partition":     func(m map[string]string) { m[metaPartition] = "1" },
		"first":         func(m map[string]string) { m[metaFirst] = "1" },
		"last":          func(m map[string]string) { m[metaLast] = "8" },
		"no metadata":   func(m map[string]string) { clear(m) },
	} {
		for _, when := range []string{"before the plan", "before the upload", "during the upload"} {
			t.Run(name+" "+when, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, 1, 10)
					meta := maps.Clone(same)
					change(meta)
					put := func() {
						err := w.store.Put(t.Context(), rangeKey(0, 0, 9), strings.NewReader("other"), 5, store.Attributes{Meta: meta})
						if err != nil {
							t.Fatal(err)
						}
					}
					m := w.join(func(_ context.Context, c storetest.Call) storetest.Fault {
						if c.Op == storetest.Put && when == "during the upload" && len(w.keys()) == 0 {
							put()
						}
						return storetest.Fault{}
					})
					if when == "before the plan" {
						put()
					}
					m.mustWrite(0, 10)
					_ = m.sink.Flush(t.Context(), true)
					synctest.Wait()
					if when == "before the upload" {
						put()
					}
					c := m.commit(partitionOf(0))
					synctest.Wait()
					err := m.sink.Flush(t.Context(), false)
					done := m.sink.Plan(partitionOf(0), sink.Position{})
					if name == "same identity" {
						if err != nil || done.Next != 10 {
							t.Errorf("got %v, %+v, want the object to be adopted", err, done)
						}
					} else {
						if err == nil || !strings.Contains(err.Error(), "another object") {
							t.Errorf("Flush: %v, want an error", err)
						}
						if planned := when != "before the plan"; done.Next != 0 || (c.Plan != nil) != planned {
							t.Errorf("the commits are %+v and %+v", c, done)
						}
					}
					if _, data, _ := w.store.Content(rangeKey(0, 0, 9)); string(data) != "other" {
						t.Errorf("the object is %q now", data)
					}
				})
			})
		}
	}
}
