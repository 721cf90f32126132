package schedule

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"kcagent/sink"
)

// TestFlushesAreAligned: a flush follows within the interval, and consumers of one phase
// flush at the same moments.
func TestFlushesAreAligned(t *testing.T) {
	for _, interval := range []time.Duration{20 * time.Millisecond, time.Second, time.Minute, time.Nanosecond, 0} {
		for phase := range flushPhases {
			var moment time.Duration
			for i := range 100 {
				since := flushEpoch.Add(time.Duration(i-50) * 7777777 * time.Nanosecond)
				at := flushAt(since, interval, phase)
				if after := at.Sub(since); after < 0 || after > interval {
					t.Errorf("interval %s: flushed after %s", interval, after)
				}
				if interval == 0 {
					continue
				}
				m := (at.Sub(flushEpoch)%interval + interval) % interval
				if i > 0 && m != moment {
					t.Errorf("interval %s, phase %d: flushed %s and %s after the start of an interval", interval, phase, m, moment)
				}
				moment = m
			}
		}
	}
}

// TestFlushPhasesAreSpread: a thousand consumers do not all flush at one moment.
func TestFlushPhasesAreSpread(t *testing.T) {
	var of [flushPhases]int
	for i := range 1000 {
		of[flushPhase(fmt.Sprintf("consumer-%d", i))]++
	}
	for phase, n := range of {
		if n < 100 || n > 400 {
			t.Errorf("%d of 1000 consumers are in phase %d", n, phase)
		}
	}
}

// TestIntervalChangesOnlyItsOwnFlush: a first flush and a retry, which are due soon, stay due when
// flush.interval changes.
func TestIntervalChangesOnlyItsOwnFlush(t *testing.T) {
	now := flushEpoch.Add(time.Hour)
	for name, soon := range map[string]func(f *Schedule){
		"first flush": func(f *Schedule) { f.Sooner(now.Add(20 * time.Millisecond)) },
		"retry":       func(f *Schedule) { f.Flushed(now, &sink.FlushError{}) },
		"commit":      func(f *Schedule) { f.Flushed(now, errors.New("no coordinator")) },
	} {
		var f Schedule
		soon(&f)
		due := f.Next(time.Time{})
		if due.IsZero() || due.After(now.Add(time.Minute)) {
			t.Fatalf("%s: due at %s", name, due)
		}
		f.Accepted(now, time.Hour)
		f.SetInterval(2 * time.Hour)
		if got := f.Next(time.Time{}); !got.Equal(due) {
			t.Errorf("%s: due at %s after a change of the interval, want %s", name, got, due)
		}
		f.SetInterval(time.Nanosecond)
		if got := f.Next(time.Time{}); !f.failed && got.After(now.Add(time.Millisecond)) {
			t.Errorf("%s: due at %s with a short interval", name, got)
		}
	}
}
