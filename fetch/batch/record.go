package batch

import (
	"errors"
	"fmt"
	"time"

	"kcagent/leader"
	"kcagent/record"
)

// A Record is one record of a partition, without its topic and partition. Its bytes are valid only
// until the function that receives the record returns.
type Record struct {
	record.Record
	Epoch leader.Epoch // leader epoch of its batch

	putBack bool
}

// PutBack makes the record the first one of the next Take. The function that receives the record
// calls PutBack before it returns false.
func (r *Record) PutBack() { r.putBack = true }

// A Batch is a decompressed record batch, or the rest of one.
type Batch struct {
	data     []byte
	count    int   // records in data
	base     int64 // the offset that offset deltas are relative to
	from     int64 // records before this offset are skipped: brokers send whole batches
	baseTime int64 // what timestamp deltas are relative to, in milliseconds since 1970; may be negative
	sameTime bool  // all records have the timestamp baseTime
	legacy   bool  // data is messages of the formats before Kafka 0.11
	epoch    leader.Epoch
}

// errMalformed reports a record that the producer wrote wrongly: the checksum of the batch is right.
var errMalformed = errors.New("malformed record")

// maxHeaders is how many headers a record may have. A header needs only two bytes of a batch, and
// many times that in memory.
const maxHeaders = 100_000

var errHeaders = fmt.Errorf("record has more than %d headers: to skip it, stop the consumer and reset the group's offset to the one after it", maxHeaders)

// each calls receive for the records until it returns false. It reports whether all records were
// received, and otherwise the offset to continue at. Nothing of a malformed record is used, not
// even its offset. A record that was put back is the first one of the next call.
func (b *Batch) each(r *Record, receive func(*Record) bool) (all bool, next int64, err error) {
	r.Epoch = b.epoch
	for b.count > 0 {
		size, err := b.read(r)
		if err != nil {
			return false, b.from, err
		}
		more := true
		if r.Offset >= b.from {
			if more = receive(r); r.putBack {
				r.putBack, b.from = false, r.Offset
				return false, b.from, nil
			}
			b.from = r.Offset + 1
		}
		b.count--
		b.data = b.data[size:]
		if !more {
			return b.count == 0, b.from, nil
		}
	}
	return true, 0, nil
}

// read reads the first record of the batch, and returns how many bytes it has. Its key, value and
// headers point into the batch.
func (b *Batch) read(r *Record) (size int, err error) {
	if b.legacy {
		in := byteReader{b: b.data}
		if in.message(r, b); in.short {
			return 0, errMalformed
		}
		return len(b.data) - len(in.b), nil
	}
	var l layout
	if !l.locate(b.data) {
		return 0, errMalformed
	}
	r.Offset = b.base + l.offset
	r.Time = timestamp(b.milliseconds(l.time))
	r.Key, r.Value, r.Headers = nil, nil, r.Headers[:0]
	if l.key >= 0 {
		r.Key = b.data[l.key:l.keyEnd:l.keyEnd]
	}
	if l.value >= 0 {
		r.Value = b.data[l.value:l.valueEnd:l.valueEnd]
	}
	if l.headers > 0 {
		r.Headers, err = appendHeaders(r.Headers, b.data[l.rest:l.end], l.headers)
	}
	return l.end, err
}

// milliseconds returns the timestamp of the record with a delta.
func (b *Batch) milliseconds(delta int64) int64 {
	if b.sameTime {
		return b.baseTime
	}
	return b.baseTime + delta
}

// noTimestamp is Kafka's timestamp of a record without one. Other negative timestamps are times
// before 1970.
const noTimestamp = -1

// timestamp converts a Kafka timestamp, in milliseconds since 1970. The result is the zero
// time if and only if the record has no timestamp.
func timestamp(ms int64) time.Time {
	if ms < 0 {
		return timestampBefore1970(ms)
	}
	return time.UnixMilli(ms)
}

func timestampBefore1970(ms int64) time.Time {
	if ms == noTimestamp {
		return time.Time{}
	}
	t := time.UnixMilli(ms)
	if t.IsZero() { // the first moment of year 1 is a valid timestamp
		t = t.Add(time.Nanosecond)
	}
	return t
}
