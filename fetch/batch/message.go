package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/IBM/sarama"

	"kcagent/leader"
)

// message takes one message of the formats before Kafka 0.11, which topics from
// those days may still hold: offset, size, checksum, magic, attributes, with
// magic 1 a timestamp, key, value. The value of a compressed one is messages. In
// magic 1 the offsets of those count up to the outer one, which is that of the
// last (KIP-31); in magic 0 they are absolute.
func (d *decoder) message(b []byte) error {
	const header, appendTime = 18, 0x08
	last := int64(binary.BigEndian.Uint64(b))
	if last < d.pos {
		return nil
	}
	if len(b) < header || crc32.ChecksumIEEE(b[16:]) != binary.BigEndian.Uint32(b[12:]) {
		return errChecksum
	}
	// The prefix of a batch and of a message differ: magic is at 16 in both.
	magic, attributes := b[16], b[17]
	u := Batch{data: b, left: 1, from: d.Next, old: true}
	if codec := sarama.CompressionCodec(attributes & 7); codec != sarama.CompressionNone {
		var outer Record
		c := cursor{b: b}
		if c.message(&outer, &u); c.bad {
			return errMalformed
		}
		data, err := d.inflate(codec, outer.Value, last+1)
		if err != nil {
			return err
		}
		u.data, u.left = data, 0
		var inner int64
		for c := (cursor{b: data}); len(c.b) > 0; u.left++ {
			var r Record
			if c.message(&r, &u); c.bad {
				return fmt.Errorf("in a compressed message: %w", errMalformed)
			}
			inner = r.Offset
		}
		if magic == 1 {
			u.base = last - inner
			if attributes&appendTime != 0 {
				u.first, u.sameTime = int64(binary.BigEndian.Uint64(b[18:])), true // of the outer message
			}
		}
	}
	d.batches = append(d.batches, u)
	d.room.fed = true
	d.Next, d.Last = last+1, leader.Unknown
	return nil
}

// message reads one message.
func (c *cursor) message(r *Record, u *Batch) {
	head := c.span(18)
	if c.bad {
		return
	}
	r.Offset = u.base + int64(binary.BigEndian.Uint64(head))
	size := int64(int32(binary.BigEndian.Uint32(head[8:]))) - 6
	body := cursor{b: c.span(max(size, 0))}
	r.Time = time.Time{}
	if head[16] >= 1 {
		if at := body.span(8); !body.bad {
			r.Time = timeOf(int64(binary.BigEndian.Uint64(at)))
		}
	}
	if u.sameTime {
		r.Time = timeOf(u.first)
	}
	r.Key, r.Value, r.Headers = body.long(), body.long(), r.Headers[:0]
	c.bad = c.bad || body.bad || size < 0
}

// long reads a length of four bytes and as many bytes; nil if it is negative.
func (c *cursor) long() []byte {
	head := c.span(4)
	if c.bad {
		return nil
	}
	n := int32(binary.BigEndian.Uint32(head))
	if n < 0 {
		return nil
	}
	return c.span(int64(n))
}
