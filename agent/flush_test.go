package agent

import (
	"testing"
	"time"
)

func TestFlushesAreAligned(t *testing.T) {
	for _, interval := range []time.Duration{20 * time.Millisecond, time.Second, time.Minute, time.Nanosecond, 0} {
		grid := min(interval/20, 50*time.Millisecond)
		for i := range 100 {
			since := epoch.Add(time.Duration(i-50) * 7777777 * time.Nanosecond)
			at := flushAt(since, interval)
			if late := at.Sub(since.Add(interval)); late > 0 || -late > max(grid, 0) {
				t.Errorf("interval %s: a flush is %s late", interval, late)
			}
			if grid > 0 && at.Sub(epoch)%grid != 0 {
				t.Errorf("interval %s: %s is not on the grid", interval, at.Sub(epoch))
			}
		}
	}
}
