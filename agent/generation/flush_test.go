package generation

import (
	"fmt"
	"testing"
	"time"
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
