package sinkio

import (
	"testing"
	"time"
)

// TestTimerFiresAtTheEarliestDeadline checks that the timer fires at the earliest
// deadline, and soon after the clock was set back.
func TestTimerFiresAtTheEarliestDeadline(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	timer := &Timer{OnDeadline: func() {}, Now: func() time.Time { return now }}
	at := now.Add(time.Hour)
	timer.Set(at.Add(time.Hour))
	timer.Set(at)
	timer.Set(at.Add(time.Minute))
	if !timer.deadline.Equal(at) {
		t.Errorf("it fires at %v, want %v", timer.deadline, at)
	}
	fired := 0
	timer.OnDeadline = func() { fired++ }
	timer.Fire()
	if fired != 0 {
		t.Error("it fired too early")
	}
	now = now.Add(-time.Second)
	timer.Fire()
	if fired != 1 {
		t.Error("it did not fire after the clock was set back")
	}
	timer.Reset(at)
	now = now.Add(2 * time.Hour)
	timer.Fire()
	if fired != 2 {
		t.Error("it did not fire in time")
	}
	timer.Stop()
}
