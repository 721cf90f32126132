package file

import (
	"sync"
	"time"
)

// An flushTimer calls ring at the earliest of the times that were set. It is safe
// for concurrent use.
type flushTimer struct {
	onDeadline func() // nil: nothing rings
	now        func() time.Time

	mu       sync.Mutex
	deadline time.Time // zero if none is set
	armedAt  time.Time // the clock when the timer was started
	timer    *time.Timer
	stopped  bool
}

const (
	// maxTimer is how long a timer runs at most: timers do not follow a clock that is
	// set.
	maxTimer = time.Minute
	// overdue is how long it runs for a time that has passed: what was due and failed
	// is tried again, but not at once.
	overdue = 250 * time.Millisecond
)

// set has the alarm ring at t too; zero is never.
func (a *flushTimer) set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.IsZero() || !a.deadline.IsZero() && !t.Before(a.deadline) {
		return
	}
	a.deadline = t
	a.arm()
}

// reset has the alarm ring at t and no more at other times; zero is never.
func (a *flushTimer) reset(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deadline.Equal(t) {
		return
	}
	a.deadline = t
	a.arm()
}

// arm is called with a.mu.
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
	// A clock that was set back may make a file due, too.
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

// stop ends the alarm.
func (a *flushTimer) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
