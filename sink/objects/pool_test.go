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

// A poolRig is a pool that runs one job at a time, and four slow ones. Each job has a sink of its own.
type poolRig struct {
	*testing.T
	pool *pool
}

func newPoolRig(t *testing.T) *poolRig {
	return &poolRig{t, &pool{limit: 1}}
}

// add adds a job of a server. It returns whether the job has begun, and ends it.
func (r *poolRig) add(server string) (began *atomic.Bool, end func(ok bool)) {
	q := &queue{pool: r.pool, server: server, ctx: r.Context()}
	began, result := new(atomic.Bool), make(chan bool, 1)
	q.add(func() bool {
		began.Store(true)
		return <-result
	})
	synctest.Wait()
	return began, func(ok bool) {
		result <- ok
		synctest.Wait()
	}
}

// stall makes a server stalled: a job of it fails after stallTime.
func (r *poolRig) stall(server string) {
	_, end := r.add(server)
	time.Sleep(stallTime)
	end(false)
}

// wait waits until the jobs that have begun have taken stallTime.
func (r *poolRig) wait() {
	time.Sleep(stallTime)
	synctest.Wait()
}

// TestSlowTrialDelaysNoOther: after an outage of several servers, one of them takes minutes for each job.
// The others get their trials.
func TestSlowTrialDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newPoolRig(t)
		r.stall("slow")
		r.stall("healthy")
		slow, endSlow := r.add("slow")
		healthy, endHealthy := r.add("healthy")
		if !slow.Load() || healthy.Load() {
			t.Errorf("at first: slow began %v, healthy began %v; want one trial at a time", slow.Load(), healthy.Load())
		}
		r.wait()
		if !healthy.Load() {
			t.Error("a trial that has become slow delays another server")
		}
		endSlow(true)
		endHealthy(true)
		if p := r.pool; p.busy != 0 || p.slow != 0 || p.trials != 0 || len(p.late) != 0 {
			t.Errorf("after all jobs: %d busy, %d slow, %d trials, %d late", p.busy, p.slow, p.trials, len(p.late))
		}
	})
}

// TestLateJobBecomesSlowOnceThereIsRoom: as many jobs as may be are slow. Once one of them ends, a job
// that has taken long meanwhile becomes slow, and delays no other. Trials are the last to do so.
func TestLateJobBecomesSlowOnceThereIsRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newPoolRig(t)
		r.stall("stalled")
		r.stall("stalled, too")
		var ends []func(ok bool)
		add := func(server string) *atomic.Bool {
			began, end := r.add(server)
			ends = append(ends, end)
			return began
		}
		for _, server := range []string{"a", "b", "c", "d"} {
			if began := add(server); !began.Load() {
				t.Fatalf("the job of %s waits", server)
			}
			r.wait()
		}
		add("stalled")
		r.wait()
		add("e")
		r.wait()
		trial, other := add("stalled, too"), add("healthy")
		if trial.Load() || other.Load() {
			t.Fatalf("five jobs are slow: trial began %v, other began %v", trial.Load(), other.Load())
		}
		ends[0](true)
		if trial.Load() || !other.Load() {
			t.Errorf("with room for one: trial began %v, other began %v", trial.Load(), other.Load())
		}
		ends[1](true)
		if !trial.Load() {
			t.Error("with room for two, the trial waits")
		}
		for _, end := range ends[2:] {
			end(true)
		}
		if p := r.pool; p.busy != 0 || p.slow != 0 || p.trials != 0 || len(p.late) != 0 {
			t.Errorf("after all jobs: %d busy, %d slow, %d trials, %d late", p.busy, p.slow, p.trials, len(p.late))
		}
	})
}
