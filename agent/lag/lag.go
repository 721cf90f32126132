// Package lag computes how far a consumer is behind the end of what it reads. It is pure: it
// knows neither brokers nor clocks.
package lag

// A Lag is how far a partition, or a whole consumer, is behind. Nil is unknown, which is not
// the same as 0.
type Lag struct {
	Records *int64   // records between the position and the end
	Seconds *float64 // age of the next record to be written; an upper bound
	CatchUp *float64 // seconds until Records is 0, at the present trend
}

// Between returns the lag of a partition from its position and its end. Either is negative if
// it is unknown.
func Between(position, end int64) Lag {
	if position < 0 || end < 0 {
		return Lag{}
	}
	l := Lag{Records: new(max(0, end-position))}
	if *l.Records == 0 {
		l.Seconds, l.CatchUp = new(0.0), new(0.0)
	}
	return l
}

// Sum returns the lag of a consumer from those of its partitions: the sum of the records, and
// the maximum age. A value is unknown if that of one partition is unknown, or if there is no
// partition.
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
