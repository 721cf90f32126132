package batch

import (
	"math"
	"time"
)

// Values are the values of consecutive records in a buffer, each with a newline after it.
type Values struct {
	Data        []byte
	Last        int // index in Data at which the last value begins
	Records     int
	Bytes       int64     // of the keys and values
	First, Time time.Time // timestamps of the first and of the last record; zero if it has none

	window window // of the first record
}

// ValueLimits say where [Part.AppendValues] ends.
type ValueLimits struct {
	Data   int // once the buffer has this size, so it may be larger by the last record
	Record int // before a record that may have at least this size
	Header int // what each header adds to the size of a record, in addition to its own bytes
	// Before, if not 0, is an offset: AppendValues ends before a record at or after it.
	Before int64
	// Window, if not nil, is called with the timestamp of the first record, and returns which
	// timestamps the further records may have: from <= t < to, or any if both are zero. AppendValues
	// ends before a record with another one.
	Window func(first time.Time) (from, to time.Time)
}

// AppendValues appends the values of records to v, with the same result as a call of Each whose
// function appends one value. A null value is an empty line. It returns the offset to continue at,
// also with an error.
//
// If handOver is true, AppendValues has ended before a record that it does not read, because the
// record is too large, or in a format before Kafka 0.11. The caller reads it with Each, which also
// returns the offset to continue at.
func (p *Part) AppendValues(v *Values, limits ValueLimits) (next int64, handOver bool, err error) {
	next, err = p.walk(func(b *Batch) (all bool, next int64, err error) {
		all, next, handOver, err = b.appendValues(v, limits)
		return all, next, err
	})
	return next, handOver, err
}

// appendValues appends values until a limit is reached. Otherwise it returns the same as each.
func (b *Batch) appendValues(v *Values, limits ValueLimits) (all bool, next int64, handOver bool, err error) {
	if b.legacy {
		return false, b.from, true, nil
	}
	var l layout
	bounds := b.bounds(v, &limits)
	dst, data, count, from := v.Data, b.data, b.count, b.from
	records, size, first, last := 0, 0, int64(0), int64(0)
	full := false
	for count > 0 && !full {
		if !l.locate(data) {
			err = errMalformed
			break
		}
		if l.headers > 0 {
			if err = checkHeaders(data[l.rest:l.end], l.headers); err != nil {
				break
			}
		}
		if offset := b.base + l.offset; offset >= from {
			if bounds.check && bounds.mayExclude(offset, l.time) && b.excludes(&bounds, v, &limits, offset, l.time) {
				from, full = offset, true
				break
			}
			if handOver = l.end+limits.Header*int(max(0, l.headers)) >= limits.Record; handOver {
				break
			}
			if last = l.time; records == 0 {
				first = last
			}
			v.Last = len(dst)
			if l.value >= 0 {
				dst = append(dst, data[l.value:l.valueEnd]...)
			}
			dst = append(dst, '\n')
			records++
			size += l.keyEnd - l.key + l.valueEnd - l.value // 0 for null
			from, full = offset+1, len(dst) >= limits.Data
		}
		data = data[l.end:]
		count--
	}
	if records > 0 {
		v.add(dst, records, size, timestamp(b.milliseconds(first)), timestamp(b.milliseconds(last)))
	}
	b.data, b.count, b.from = data, count, from
	if count == 0 && !full {
		return true, 0, false, nil
	}
	return count == 0, from, handOver, err
}

// add adds records that were appended to v.Data, which is data now.
func (v *Values) add(data []byte, records, size int, first, last time.Time) {
	if v.Records == 0 {
		v.First = first
	}
	v.Data, v.Time = data, last
	v.Records += records
	v.Bytes += int64(size)
}

// A window is an interval of timestamps.
type window struct {
	known    bool // there was a first record
	any      bool // all timestamps
	from, to time.Time
}

func (w *window) has(t time.Time) bool { return w.any || !t.Before(w.from) && t.Before(w.to) }

// bounds are what the next records of a batch must be within, as numbers that are compared for each
// record. A record outside them may still be allowed.
type bounds struct {
	check  bool   // they exclude a record
	before int64  // offset
	least  int64  // timestamp delta
	width  uint64 // how many deltas are allowed from there on
}

// mayExclude reports whether a record is outside the bounds.
func (x *bounds) mayExclude(offset, delta int64) bool {
	return offset >= x.before || uint64(delta-x.least) >= x.width
}

// bounds returns the bounds of the batch.
func (b *Batch) bounds(v *Values, limits *ValueLimits) bounds {
	x := bounds{before: limits.Before}
	if x.before == 0 {
		x.before = math.MaxInt64
	}
	x.setWindow(b, v, limits)
	return x
}

// setWindow sets the bounds of timestamps. As long as the window is unknown, they exclude every
// record, so that [Batch.excludes] is called for the first one.
func (x *bounds) setWindow(b *Batch, v *Values, limits *ValueLimits) {
	w := &v.window
	switch {
	case limits.Window == nil || w.any || w.known && b.sameTime && w.has(timestamp(b.baseTime)):
		x.least, x.width = math.MinInt64, math.MaxUint64
	case !w.known || b.sameTime:
		x.width = 0
	default:
		from, to := milliseconds(w.from), milliseconds(w.to)
		if from <= noTimestamp && noTimestamp < to {
			to = noTimestamp // a record without a timestamp is not in the window
		}
		if x.width = 0; from < to {
			x.least, x.width = from-b.baseTime, uint64(to-from)
		}
	}
	x.check = limits.Before != 0 || x.width != math.MaxUint64
}

// milliseconds returns the first timestamp that is not before t, as far as there is one.
func milliseconds(t time.Time) int64 {
	const most = math.MaxInt64/1000 - 1
	switch s := t.Unix(); {
	case s > most:
		return math.MaxInt64
	case s < -most:
		return math.MinInt64
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// excludes reports whether a limit excludes a record outside the bounds. The first record sets the
// window.
func (b *Batch) excludes(x *bounds, v *Values, limits *ValueLimits, offset, delta int64) bool {
	switch w, t := &v.window, timestamp(b.milliseconds(delta)); {
	case offset >= x.before:
		return true
	case limits.Window == nil:
		return false
	case w.known:
		return !w.has(t)
	default:
		w.from, w.to = limits.Window(t)
		w.known, w.any = true, w.from.IsZero() && w.to.IsZero()
		x.setWindow(b, v, limits)
		return false
	}
}
