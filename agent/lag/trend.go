package lag

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// window is how many samples the rate is measured over. The agent takes one every two
	// seconds.
	window = 5
	// slowest is the rate, in records per second, below which a lag does not count as falling.
	slowest = 0.01
)

// A Trend is how fast a number of records falls: the rate at which they are consumed, less the
// rate at which they are produced, over the last samples. One goroutine calls Sample; the
// other methods may be called by any. The zero value has no sample.
type Trend struct {
	rate atomic.Uint64 // records per second, as float bits; 0 if it is unknown

	past  [window]point // the last samples, as a ring; Sample alone uses it
	count int           // of samples since the trend began; Sample alone uses it
}

// A point is one sample.
type point struct {
	records int64
	at      time.Time
}

// Sample takes the records of the moment now; nil if they are unknown, which ends the trend.
func (t *Trend) Sample(records *int64, now time.Time) {
	if records == nil {
		t.count = 0
		t.rate.Store(0)
		return
	}
	if t.count > 0 {
		oldest := t.past[max(0, t.count-window)%window]
		if since := now.Sub(oldest.at).Seconds(); since > 0 {
			t.rate.Store(math.Float64bits(float64(oldest.records-*records) / since))
		}
	}
	t.past[t.count%window] = point{*records, now}
	t.count++
}

// CatchUp returns the seconds until the records are 0. It is nil if they are unknown or do not
// fall.
func (t *Trend) CatchUp(records *int64) *float64 {
	switch rate := math.Float64frombits(t.rate.Load()); {
	case records == nil:
		return nil
	case *records == 0:
		return new(0.0)
	case rate >= slowest:
		return new(float64(*records) / rate)
	}
	return nil
}
