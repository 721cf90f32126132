package objects

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink/objects/store/storetest"
)

// TestSinksShareUploads: four uploads are in progress at a time in the process. A sink whose store does
// not respond does not delay the others.
func TestSinksShareUploads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var now, most atomic.Int32
		slow := func(ctx context.Context, c storetest.Call) (f storetest.Fault) {
			if c.Op == storetest.Put {
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
			}
			return f
		}
		w := newWorld(t, 8, 2)
		a, b := w.join(slow), newWorld(t, 8, 2).join(slow)
		a.finish()
		b.finish()
		if most.Load() != 4 {
			t.Errorf("%d uploads at a time, want 4", most.Load())
		}
		dead := newWorld(t, 8, 2).join(func(ctx context.Context, c storetest.Call) (f storetest.Fault) {
			if c.Op == storetest.Put {
				<-ctx.Done()
				f.Before = ctx.Err()
			}
			return f
		})
		for p := range int32(8) {
			dead.mustWrite(p, 2)
		}
		for range 2 {
			_ = dead.flush(true)
			synctest.Wait()
		}
		time.Sleep(2 * callTimeout) // its uploads have failed once
		began := time.Now()
		newWorld(t, 8, 2).join(nil).finish()
		if took := time.Since(began); took > callTimeout/2 {
			t.Errorf("another sink waited for %s", took)
		}
	})
}

// TestStalledServerDelaysNoOther: the jobs of many sinks wait for a server that does not respond. Sinks
// of another server publish at once, after the first of those jobs have failed.
func TestStalledServerDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var dead []*member
		for range 12 {
			w := newWorld(t, 1, 100)
			w.spec.URL = "memory://dead/" + w.spec.Spool // each sink has another prefix
			dead = append(dead, w.join(func(ctx context.Context, _ storetest.Call) storetest.Fault {
				ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
				defer cancel()
				<-ctx.Done()
				return storetest.Fault{Before: storetest.ErrFault}
			}))
		}
		for _, d := range dead {
			d.mustWrite(0, 10)
			_ = d.flush(true)
		}
		time.Sleep(2 * time.Minute)
		w := newWorld(t, 1, 100)
		w.spec.URL = "memory://healthy"
		m := w.join(nil)
		for n := range int64(10) {
			began := time.Now()
			m.mustWrite(0, 10)
			_ = m.flush(true)
			for range 3 { // the probe, the plan, and the upload
				synctest.Wait()
				_ = m.flush(true)
			}
			if c := w.committed[partitionOf(0)]; c.Next != 10*(n+1) || c.Plan != nil || time.Since(began) > 0 {
				t.Fatalf("after %s and %d records, %+v is committed", time.Since(began), 10*(n+1), c)
			}
			time.Sleep(7 * time.Second)
		}
	})
}

// TestSlowServerDelaysNoOther: a server that takes minutes for each upload gets four at a time, and sinks
// of another server publish at once.
func TestSlowServerDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var now, most atomic.Int32
		for range 12 {
			w := newWorld(t, 1, 100)
			w.spec.URL = "memory://slow/" + w.spec.Spool // each sink has another prefix
			m := w.join(func(ctx context.Context, c storetest.Call) (f storetest.Fault) {
				if c.Op == storetest.Put {
					most.Store(max(most.Load(), now.Add(1)))
					ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
					defer cancel()
					<-ctx.Done()
					now.Add(-1)
				}
				return f
			})
			m.mustWrite(0, 10)
			for range 2 { // the probe, and the plan
				_ = m.flush(true)
				synctest.Wait()
			}
		}
		time.Sleep(stallTime)
		w := newWorld(t, 1, 100)
		w.spec.URL = "memory://healthy"
		m := w.join(nil)
		began := time.Now()
		m.mustWrite(0, 10)
		for range 3 {
			_ = m.flush(true)
			synctest.Wait()
		}
		_ = m.flush(true)
		if c := w.committed[partitionOf(0)]; c.Next != 10 || c.Plan != nil || time.Since(began) > 0 {
			t.Errorf("after %s, %+v is committed", time.Since(began), c)
		}
		if now.Load() != 4 || most.Load() != 4 {
			t.Errorf("%d slow uploads are in progress, %d at most, want 4", now.Load(), most.Load())
		}
	})
}
