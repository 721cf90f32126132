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
	// overdue is how long the timer runs for a time that has passed. What was due and failed
	// is tried again, but not at once.
	overdue = 250 * time.Millisecond
)

// set adds a deadline; zero adds none.
func (a *flushTimer) set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.IsZero() || !a.deadline.IsZero() && !t.Before(a.deadline) {
		return
	}
	a.deadline = t
	a.arm()
}

// reset replaces all deadlines by t; zero removes them.
func (a *flushTimer) reset(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deadline.Equal(t) {
		return
	}
	a.deadline = t
	a.arm()
}

// arm starts the timer for the deadline. The caller holds a.mu.
func (a *flushTimer) arm() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if a.onDeadline == nil || a.stopped || a.deadline.IsZero() {
		return
	}
	a.armedAt = a.now().Round(0)
	wait := min(a.deadline.Sub(a.armedAt), maxTimer)
	if wait <= 0 {
		wait = overdue
	}
	a.timer = time.AfterFunc(wait, a.fire)
}

func (a *flushTimer) fire() {
	a.mu.Lock()
	now := a.now().Round(0)
	// A file may also be due because the clock was set back.
	rings := !a.stopped && !a.deadline.IsZero() && (!now.Before(a.deadline) || now.Before(a.armedAt))
	if rings {
		a.deadline = time.Time{}
	} else {
		a.arm()
	}
	a.mu.Unlock()
	if rings {
		a.onDeadline()
	}
}

// stop ends the timer for good.
func (a *flushTimer) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
