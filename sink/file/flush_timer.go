package file

import (
	"sync"
	"time"
)

// A flushTimer calls onDeadline at the earliest of the times that were set. It is safe for
// concurrent use.
type flushTimer struct {
	onDeadline func() // nil if nothing is to be called
	now        func() time.Time

	mu       sync.Mutex
	deadline time.Time // zero if none is set
	armedAt  time.Time // the clock when the timer was started
	timer    *time.Timer
	stopped  bool
}

const (
	// maxTimer is how long a timer runs at most, because timers ignore changes of the clock.
	maxTimer = time.Minute
	// overdue is how long the timer runs for a time that has passed. A task that was due and
	// failed is retried, but not at once.
	overdue = 250 * time.Millisecond
)

// set adds a deadline; zero adds none.
func (t *flushTimer) set(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.IsZero() || !t.deadline.IsZero() && !at.Before(t.deadline) {
		return
	}
	t.deadline = at
	t.arm()
}

// reset replaces all deadlines by at; zero removes them.
func (t *flushTimer) reset(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deadline.Equal(at) {
		return
	}
	t.deadline = at
	t.arm()
}

// arm starts the timer for the deadline. The caller holds t.mu.
func (t *flushTimer) arm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if t.onDeadline == nil || t.stopped || t.deadline.IsZero() {
		return
	}
	t.armedAt = t.now().Round(0)
	wait := min(t.deadline.Sub(t.armedAt), maxTimer)
	if wait <= 0 {
		wait = overdue
	}
	t.timer = time.AfterFunc(wait, t.fire)
}

// fire calls onDeadline if the deadline has passed, and otherwise starts the timer again.
func (t *flushTimer) fire() {
	t.mu.Lock()
	now := t.now().Round(0)
	// A file may also be due because the clock was set back.
	due := !t.stopped && !t.deadline.IsZero() && (!now.Before(t.deadline) || now.Before(t.armedAt))
	if due {
		t.deadline = time.Time{}
	} else {
		t.arm()
	}
	t.mu.Unlock()
	if due {
		t.onDeadline()
	}
}

// stop ends the timer for good.
func (t *flushTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
