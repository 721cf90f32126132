package batch

import "time"

// Values are the values of consecutive records in a buffer, each with a newline after it.
type Values struct {
	Data        []byte
	Last        int // index in Data at which the last value begins
	Records     int
	Bytes       int64     // of the keys and values
	First, Time time.Time // timestamps of the first and of the last record; zero if it has none
}

// ValueLimits say where [Part.AppendValues] ends.
type ValueLimits struct {
	Data   int // once the buffer has this size, so it may be larger by the last record
	Record int // before a record that may have at least this size
	Header int // what each header adds to the size of a record, in addition to its own bytes
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
