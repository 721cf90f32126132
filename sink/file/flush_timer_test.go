package file

import (
	"testing"
	"time"
)

// TestFlushTimerFiresAtTheEarliestDeadline checks that the timer fires at the earliest
// deadline, and soon after the clock was set back.
func TestFlushTimerFiresAtTheEarliestDeadline(t *testing.T) {
	clk := newClock()
	a := &flushTimer{onDeadline: func() {}, now: clk.now}
	at := clk.now().Add(time.Hour)
	a.set(at.Add(time.Hour))
	a.set(at)
	a.set(at.Add(time.Minute))
	if !a.deadline.Equal(at) {
		t.Errorf("it rings at %v, want %v", a.deadline, at)
	}
	rang := 0
	a.onDeadline = func() { rang++ }
	a.fire()
	if rang != 0 {
		t.Error("it rang too early")
	}
	clk.add(-time.Second)
	a.fire()
	if rang != 1 {
		t.Error("it did not ring after the clock was set back")
	}
	a.reset(at)
	clk.add(2 * time.Hour)
	a.fire()
	if rang != 2 {
		t.Error("it did not ring in time")
	}
	a.stop()
}
