package sinkio

import (
	"sync"
	"time"
)

// A Timer calls OnDeadline at the earliest of the times that were set. Its methods are safe for
// concurrent use.
type Timer struct {
	OnDeadline func() // nil if nothing is to be called
	Now        func() time.Time

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

// Set adds a deadline; zero adds none.
func (t *Timer) Set(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.IsZero() || !t.deadline.IsZero() && !at.Before(t.deadline) {
		return
	}
	t.deadline = at
	t.arm()
}

// Reset replaces all deadlines by at; zero removes them.
func (t *Timer) Reset(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deadline.Equal(at) {
		return
	}
	t.deadline = at
	t.arm()
}

// arm starts the timer for the deadline. The caller holds t.mu.
func (t *Timer) arm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if t.OnDeadline == nil || t.stopped || t.deadline.IsZero() {
		return
	}
	t.armedAt = t.Now().Round(0)
	wait := min(t.deadline.Sub(t.armedAt), maxTimer)
	if wait <= 0 {
		wait = overdue
	}
	t.timer = time.AfterFunc(wait, t.Fire)
}

// Fire calls OnDeadline if the deadline has passed, and otherwise starts the timer again.
func (t *Timer) Fire() {
	t.mu.Lock()
	now := t.Now().Round(0)
	// A file may also be due because the clock was set back.
	due := !t.stopped && !t.deadline.IsZero() && (!now.Before(t.deadline) || now.Before(t.armedAt))
	if due {
		t.deadline = time.Time{}
	} else {
		t.arm()
	}
	t.mu.Unlock()
	if due {
		t.OnDeadline()
	}
}

// Stop ends the timer for good.
func (t *Timer) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
