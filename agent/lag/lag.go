// Package lag computes how far a consumer is behind the end of its partitions: in records, as
// the lag time, and as the catch-up time. It is pure: callers pass offsets and times.
//
// Start reading at [Reading.Lag].
package lag

import (
	"time"
)

// A Lag is how far a partition, or a whole consumer, is behind. Nil is unknown, which is not
// the same as 0.
type Lag struct {
	Records *int64   // records between the position and the end
	Seconds *float64 // lag time: the age of the next record to be written; an upper bound
	CatchUp *float64 // catch-up time: seconds until Records is 0, at the rate at which it falls now
}

// A Reading has the offsets and the timestamp from which the lag of a partition is computed.
type Reading struct {
	Position int64     // of the consumer; negative if it is unknown
	End      int64     // up to which the consumer may read; negative if it is unknown
	Next     time.Time // not later than the timestamp of the next record; zero if it is unknown
}

// Lag returns the lag at the time now, without CatchUp unless it is 0. For a timestamp in the
// future, the lag time is 0.
func (r Reading) Lag(now time.Time) Lag {
	if r.Position < 0 || r.End < 0 {
		return Lag{}
	}
	l := Lag{Records: new(max(0, r.End-r.Position))}
	switch {
	case *l.Records == 0:
		l.Seconds, l.CatchUp = new(0.0), new(0.0)
	case !r.Next.IsZero():
		l.Seconds = new(max(0, now.Sub(r.Next).Seconds()))
	}
	return l
}

// Sum returns the lag of a consumer: the sum of the records over its partitions, and the maximum
// of their lag times. A value is unknown if it is unknown for one partition, or if there is no
// partition. CatchUp is unknown unless it is 0: see [Trend].
func Sum(partitions []Lag) Lag {
	if len(partitions) == 0 {
		return Lag{}
	}
	all := Lag{Records: new(int64(0)), Seconds: new(0.0)}
	for _, p := range partitions {
		if all.Records != nil && p.Records != nil {
			*all.Records += *p.Records
		} else {
			all.Records = nil
		}
		all.Seconds = larger(all.Seconds, p.Seconds)
	}
	if all.Records != nil && *all.Records == 0 {
		all.CatchUp = new(0.0)
	}
	return all
}

// larger returns the larger of two values, nil if one of them is nil.
func larger(a, b *float64) *float64 {
	switch {
	case a == nil || b == nil:
		return nil
	case *a >= *b:
		return a
	}
	return b
}
