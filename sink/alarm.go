package sink

import (
	"sync"
	"time"
)

// An alarm calls ring at the earliest of the times that were set. It is safe
// for concurrent use.
type alarm struct {
	ring func() // nil: nobody wants to know

	mu    sync.Mutex
	at    time.Time // zero if none is set
	timer *time.Timer
	off   bool
}

// set has the alarm ring at t too.
func (a *alarm) set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ring == nil || a.off || !a.at.IsZero() && !t.Before(a.at) {
		return
	}
	a.at = t
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(time.Until(t), a.fire)
}

func (a *alarm) fire() {
	a.mu.Lock()
	early := time.Until(a.at) > 0 // one that set stopped too late
	off := a.off
	if !early {
		a.at = time.Time{}
	}
	a.mu.Unlock()
	if !off && !early {
		a.ring()
	}
}

// stop ends the alarm.
func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.off = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
