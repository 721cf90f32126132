package task

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWorkSeesTheChangeBeforeItsRequest: whenever changes are requested, by however many
// goroutines, the last one is seen, and the work is never done twice at the same time.
func TestWorkSeesTheChangeBeforeItsRequest(t *testing.T) {
	var changes, seen, inside atomic.Int64
	work := New(t.Context(), func() {
		if inside.Add(1) != 1 {
			t.Error("the work is done twice at the same time")
		}
		seen.Store(changes.Load())
		if seen.Load()%3 == 0 {
			runtime.Gosched()
		}
		inside.Add(-1)
	})
	for range 200 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1 + rand.IntN(20) {
					changes.Add(1)
					work.Request()
					if rand.IntN(4) == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		wg.Wait()
		for deadline := time.Now().Add(10 * time.Second); seen.Load() != changes.Load(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("the work has seen %d of %d changes", seen.Load(), changes.Load())
			}
		}
	}
	work.Stop()
}

// TestRequestDuringTheWorkRepeatsItOnce: requests during the work lead to one further run.
func TestRequestDuringTheWorkRepeatsItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, proceed := 0, make(chan struct{})
		work := New(t.Context(), func() {
			runs++
			<-proceed
		})
		work.Request()
		synctest.Wait()
		for range 5 {
			work.Request()
		}
		close(proceed)
		synctest.Wait()
		if runs != 2 {
			t.Errorf("the work was done %d times, want 2", runs)
		}
	})
}

// TestAtReplacesTheFormerTime: a task is requested at the last time that was set, and not after
// Stop or without a time.
func TestAtReplacesTheFormerTime(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*Task)
		want time.Duration // after which the work is done; 0 if never
	}{
		"a time":             {func(w *Task) { w.At(time.Now().Add(time.Minute)) }, time.Minute},
		"an earlier time":    {func(w *Task) { w.At(time.Now().Add(time.Minute)); w.At(time.Now().Add(time.Second)) }, time.Second},
		"a later time":       {func(w *Task) { w.At(time.Now().Add(time.Second)); w.At(time.Now().Add(time.Minute)) }, time.Minute},
		"a time in the past": {func(w *Task) { w.At(time.Now().Add(-time.Second)) }, time.Nanosecond},
		"no time any more":   {func(w *Task) { w.At(time.Now().Add(time.Second)); w.At(time.Time{}) }, 0},
		"no time at all":     {func(w *Task) { w.At(time.Time{}) }, 0},
		"a stop":             {func(w *Task) { w.At(time.Now().Add(time.Second)); w.Stop() }, 0},
		"a time after stop":  {func(w *Task) { w.Stop(); w.At(time.Now().Add(time.Second)) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var done []time.Duration
				work := New(t.Context(), func() { done = append(done, max(time.Since(began), 1)) })
				c.set(work)
				time.Sleep(time.Hour)
				work.Stop()
				if c.want == 0 && len(done) > 0 || c.want > 0 && (len(done) != 1 || done[0] != c.want) {
					t.Errorf("done after %v, want %v", done, c.want)
				}
			})
		})
	}
}

// TestStopWaitsForTheWork: after Stop, no work is in progress and none begins, also if requests
// and timers coincide with it.
func TestStopWaitsForTheWork(t *testing.T) {
	for range 300 {
		var stopped atomic.Bool
		work := New(t.Context(), func() {
			if stopped.Load() {
				t.Error("work after Stop")
			}
			runtime.Gosched()
			if stopped.Load() {
				t.Error("Stop did not wait for the work")
			}
		})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 10 {
					work.Request()
					work.At(time.Now().Add(time.Duration(rand.IntN(20)) * time.Microsecond))
				}
			})
		}
		work.Stop()
		stopped.Store(true)
		wg.Wait()
	}
}

// TestWorkHasTheLabelsOfItsTask: if another goroutine or a timer requests the work, its goroutine has the
// labels of its task only.
func TestWorkHasTheLabelsOfItsTask(t *testing.T) {
	for name, request := range map[string]func(*Task){
		"Request": (*Task).Request,
		"At":      func(w *Task) { w.At(time.Now()) },
	} {
		profile := make(chan string)
		pprof.Do(t.Context(), pprof.Labels("consumer", "task-owner"), func(ctx context.Context) {
			work := New(ctx, func() {
				var b bytes.Buffer
				_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
				profile <- b.String()
			})
			pprof.Do(context.Background(), pprof.Labels("fetcher", "other-owner"), func(context.Context) { request(work) })
			own := ""
			for _, group := range strings.Split(<-profile, "\n\n") {
				if strings.Contains(group, "TestWorkHasTheLabelsOfItsTask.func") && strings.Contains(group, "pprof.writeGoroutine") {
					own = group
				}
			}
			if !strings.Contains(own, `"consumer":"task-owner"`) || strings.Contains(own, "other-owner") {
				t.Errorf("%s: the goroutine of the work is\n%s", name, own)
			}
			work.Stop()
		})
	}
}
