// Package task runs work in goroutines that exist only while there is something to do.
package task

import (
	"context"
	"runtime/pprof"
	"sync"
	"time"
)

// A Task is work that is requested now and then. It has a goroutine only while the work runs, so
// a thousand idle tasks need no stacks. Its methods are safe for concurrent use, and none but
// Stop waits for the work.
type Task struct {
	ctx  context.Context
	work func()

	mu      sync.Mutex
	wanted  bool // requested since the work last began
	running bool // a goroutine does the work
	stopped bool
	timer   *time.Timer // of At; nil before the first
	done    sync.WaitGroup
}

// New returns a task. Its goroutines have the labels of ctx, also if a goroutine with other labels
// requests the work. So /threads can attribute them to the consumer.
func New(ctx context.Context, work func()) *Task { return &Task{ctx: ctx, work: work} }

// Request runs the work once, in another goroutine. If it is running, it runs once more
// afterwards, so it sees every change that was made before Request. It never runs twice at the
// same time.
func (t *Task) Request() {
	if t.begin() {
		go t.run()
	}
}

// At requests the work at the given time, and replaces the time of an earlier call. A zero time
// cancels it.
func (t *Task) At(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped:
	case at.IsZero():
		if t.timer != nil {
			t.timer.Stop()
		}
	case t.timer == nil:
		t.timer = time.AfterFunc(time.Until(at), t.expire)
	default:
		t.timer.Reset(time.Until(at))
	}
}

// expire is Request in a goroutine of the timer.
func (t *Task) expire() {
	if t.begin() {
		t.run()
	}
}

// Stop makes further requests do nothing, and waits for work that is in progress.
func (t *Task) Stop() {
	t.mu.Lock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.done.Wait()
}

// begin records a request. It reports whether the caller has to call run, or start it.
func (t *Task) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return false
	}
	t.wanted = true
	if t.running {
		return false
	}
	t.running = true
	t.done.Add(1)
	return true
}

// run does the work as long as it is requested.
func (t *Task) run() {
	defer t.done.Done()
	pprof.SetGoroutineLabels(t.ctx)
	for t.next() {
		t.work()
	}
}

// next reports whether the work is to be done once more.
func (t *Task) next() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.wanted && !t.stopped
	t.wanted = false
	return t.running
}
