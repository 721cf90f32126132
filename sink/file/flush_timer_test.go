package file

import (
	"testing"
	"time"
)

// TestFlushTimerFiresAtTheEarliestDeadline checks that the timer fires at the earliest
// deadline, and soon after the clock was set back.
func TestFlushTimerFiresAtTheEarliestDeadline(t *testing.T) {
	clk := newClock()
	timer := &flushTimer{onDeadline: func() {}, now: clk.now}
	at := clk.now().Add(time.Hour)
	timer.set(at.Add(time.Hour))
	timer.set(at)
	timer.set(at.Add(time.Minute))
	if !timer.deadline.Equal(at) {
		t.Errorf("it fires at %v, want %v", timer.deadline, at)
	}
	fired := 0
	timer.onDeadline = func() { fired++ }
	timer.fire()
	if fired != 0 {
		t.Error("it fired too early")
	}
	clk.add(-time.Second)
	timer.fire()
	if fired != 1 {
		t.Error("it did not fire after the clock was set back")
	}
	timer.reset(at)
	clk.add(2 * time.Hour)
	timer.fire()
	if fired != 2 {
		t.Error("it did not fire in time")
	}
	timer.stop()
}
