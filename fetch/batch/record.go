package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"kcagent/leader"
)

// A Record is one record. Nil as key or value is Kafka's null.
type Record struct {
	Offset  int64
	Time    time.Time // zero if the record has none
	Key     []byte
	Value   []byte
	Headers []Header
	Epoch   leader.Epoch // of the batch

	putBack bool
}

// PutBack is called by the function that receives a record, before it returns false: the
// record does not count as taken, and the next Take begins with it.
func (r *Record) PutBack() { r.putBack = true }

// A Header is one header of a record.
type Header struct{ Key, Value []byte }

// A Batch is a record batch, decompressed, or what is left of one.
type Batch struct {
	data     []byte
	left     int   // records in data
	base     int64 // offset that the deltas count from
	from     int64 // records before this offset are left out: a batch comes whole
	first    int64 // milliseconds since 1970 that the deltas of times count from; may be negative
	sameTime bool  // all records have the time first
	old      bool  // data is messages, as before Kafka 0.11
	epoch    leader.Epoch
}

// errMalformed means that the producer wrote nonsense: the checksum was right.
var errMalformed = errors.New("a record is malformed")

// mostHeaders is how many headers a record may have. A header takes two bytes of the batch at
// least, and many times that in memory.
const mostHeaders = 100_000

var errHeaders = fmt.Errorf("a record has more than %d headers: to skip it, stop the consumer and reset the group's offset to the one after it", mostHeaders)

// each gives the records to each until it returns false, and reports how far it
// came: all of the run, or the offset after the last record. What stands in a
// record that cannot be read counts for nothing, its offset least of all. A record that is put
// back is the first of the next call.
func (u *Batch) each(r *Record, each func(*Record) bool) (all bool, next int64, err error) {
	c := cursor{b: u.data}
	r.Epoch = u.epoch
	for u.left > 0 {
		if u.old {
			c.message(r, u)
		} else {
			c.record(r, u)
		}
		if c.crowded {
			return false, u.from, errHeaders
		}
		if c.bad {
			return false, u.from, errMalformed
		}
		more := true
		if r.Offset >= u.from {
			if more = each(r); r.putBack {
				r.putBack, u.from = false, r.Offset
				return false, u.from, nil
			}
			u.from = r.Offset + 1
		}
		u.left--
		u.data = c.b
		if !more {
			return u.left == 0, u.from, nil
		}
	}
	return true, 0, nil
}

// A cursor reads what Kafka wrote; bad says that there was too little of it.
type cursor struct {
	b       []byte
	bad     bool
	crowded bool // there are too many headers
}

// record reads one record (KIP-98). All of its bytes lie in the cursor's.
func (c *cursor) record(r *Record, u *Batch) {
	length := c.varint()
	if length < 0 || length > int64(len(c.b)) {
		c.bad = true
		return
	}
	rest := c.b[length:]
	c.b = c.b[:length]
	if c.bad = c.bad || length == 0; c.bad {
		return
	}
	c.b = c.b[1:] // attributes, unused
	at := c.varint()
	r.Offset = u.base + c.varint()
	if u.sameTime {
		at = 0
	}
	r.Time = timeOf(u.first + at)
	r.Key = c.bytes()
	r.Value = c.bytes()
	r.Headers = r.Headers[:0]
	n := c.varint()
	if c.crowded = n > mostHeaders; c.crowded {
		return
	}
	for ; n > 0 && !c.bad; n-- {
		r.Headers = append(r.Headers, Header{c.bytes(), c.bytes()})
	}
	c.b = rest
}

// noTimestamp is Kafka's timestamp of a record without one. All other negative
// numbers are times before 1970.
const noTimestamp = -1

// timeOf converts a Kafka timestamp, in milliseconds since 1970. The result is the zero
// time if and only if the record has no timestamp.
func timeOf(ms int64) time.Time {
	if ms < 0 {
		return timeBefore1970(ms)
	}
	return time.UnixMilli(ms)
}

func timeBefore1970(ms int64) time.Time {
	if ms == noTimestamp {
		return time.Time{}
	}
	t := time.UnixMilli(ms)
	if t.IsZero() { // the first moment of year 1 is a valid timestamp
		t = t.Add(time.Nanosecond)
	}
	return t
}

// varint reads a zigzag number.
func (c *cursor) varint() int64 {
	if len(c.b) > 0 && c.b[0] < 0x80 { // by far the most are small
		v := c.b[0]
		c.b = c.b[1:]
		return int64(v>>1) ^ -int64(v&1)
	}
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return v
}

// bytes reads a length and as many bytes; nil if it is negative.
func (c *cursor) bytes() []byte {
	n := c.varint()
	if n < 0 {
		return nil
	}
	return c.span(n)
}

func (c *cursor) span(n int64) []byte {
	if n > int64(len(c.b)) {
		c.bad = true
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}
