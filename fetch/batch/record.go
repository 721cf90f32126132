package batch

import (
	"encoding/binary"
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
	in := byteReader{b: b.data}
	r.Epoch = b.epoch
	for b.count > 0 {
		if b.legacy {
			in.message(r, b)
		} else {
			in.record(r, b)
		}
		if in.tooManyHeaders {
			return false, b.from, errHeaders
		}
		if in.short {
			return false, b.from, errMalformed
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
		b.data = in.b
		if !more {
			return b.count == 0, b.from, nil
		}
	}
	return true, 0, nil
}

// A byteReader reads values from bytes. Methods return zero values once there are too few bytes.
type byteReader struct {
	b              []byte
	short          bool // there were too few bytes, or a length was invalid
	tooManyHeaders bool // a record has more than maxHeaders
}

// record reads one record of the batch u (KIP-98). Its keys and values point into c.b.
func (c *byteReader) record(r *Record, u *Batch) {
	length := c.varint()
	if length < 0 || length > int64(len(c.b)) {
		c.short = true
		return
	}
	rest := c.b[length:]
	c.b = c.b[:length]
	if c.short = c.short || length == 0; c.short {
		return
	}
	c.b = c.b[1:] // attributes, which are unused
	delta := c.varint()
	r.Offset = u.base + c.varint()
	if u.sameTime {
		delta = 0
	}
	r.Time = timestamp(u.baseTime + delta)
	r.Key = c.bytes()
	r.Value = c.bytes()
	r.Headers = r.Headers[:0]
	n := c.varint()
	if c.tooManyHeaders = n > maxHeaders; c.tooManyHeaders {
		return
	}
	for ; n > 0 && !c.short; n-- {
		r.Headers = append(r.Headers, record.Header{Key: c.bytes(), Value: c.bytes()})
	}
	c.b = rest
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

// varint reads a zigzag-encoded number.
func (c *byteReader) varint() int64 {
	if len(c.b) > 0 && c.b[0] < 0x80 { // most are small
		v := c.b[0]
		c.b = c.b[1:]
		return int64(v>>1) ^ -int64(v&1)
	}
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.short = true
		return 0
	}
	c.b = c.b[n:]
	return v
}

// bytes reads a length and as many bytes. It returns nil if the length is negative.
func (c *byteReader) bytes() []byte {
	n := c.varint()
	if n < 0 {
		return nil
	}
	return c.next(n)
}

// next returns the next n bytes.
func (c *byteReader) next(n int64) []byte {
	if n > int64(len(c.b)) {
		c.short = true
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}
