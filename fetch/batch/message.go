package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/IBM/sarama"

	"kcagent/leader"
)

// message decodes one message of the formats before Kafka 0.11, which old topics may still hold:
// offset, size, checksum, magic, attributes, a timestamp if magic is 1, key, value. The value of a
// compressed message is a sequence of messages. Their offsets are absolute if magic is 0. If magic
// is 1, they are relative, and the offset of the outer message is that of the last inner one
// (KIP-31).
func (d *decoder) message(b []byte) error {
	const header, appendTime = 18, 0x08
	last := int64(binary.BigEndian.Uint64(b))
	if last < d.pos {
		return nil
	}
	if len(b) < header || crc32.ChecksumIEEE(b[16:]) != binary.BigEndian.Uint32(b[12:]) {
		return errChecksum
	}
	magic, attributes := b[16], b[17]
	u := Batch{data: b, count: 1, from: d.Next, legacy: true}
	if codec := sarama.CompressionCodec(attributes & 7); codec != sarama.CompressionNone {
		var outer Record
		c := byteReader{b: b}
		if c.message(&outer, &u); c.short {
			return errMalformed
		}
		data, err := d.decompress(codec, outer.Value, last+1)
		if err != nil {
			return err
		}
		u.data, u.count = data, 0
		var inner int64
		for c := (byteReader{b: data}); len(c.b) > 0; u.count++ {
			var r Record
			if c.message(&r, &u); c.short {
				return fmt.Errorf("read compressed message: %w", errMalformed)
			}
			inner = r.Offset
		}
		if magic == 1 {
			u.base = last - inner
			if attributes&appendTime != 0 {
				u.baseTime, u.sameTime = int64(binary.BigEndian.Uint64(b[18:])), true // the outer message has the broker's time
			}
		}
	}
	d.append(u)
	d.Next, d.Last = last+1, leader.Unknown
	return nil
}

// message reads one message of the batch u.
func (c *byteReader) message(r *Record, u *Batch) {
	head := c.next(18)
	if c.short {
		return
	}
	r.Offset = u.base + int64(binary.BigEndian.Uint64(head))
	size := int64(int32(binary.BigEndian.Uint32(head[8:]))) - 6
	body := byteReader{b: c.next(max(size, 0))}
	r.Time = time.Time{}
	if head[16] >= 1 {
		if at := body.next(8); !body.short {
			r.Time = timestamp(int64(binary.BigEndian.Uint64(at)))
		}
	}
	if u.sameTime {
		r.Time = timestamp(u.baseTime)
	}
	r.Key, r.Value, r.Headers = body.bytes32(), body.bytes32(), r.Headers[:0]
	c.short = c.short || body.short || size < 0
}

// bytes32 reads a length of four bytes and as many bytes. It returns nil if the length is negative.
func (c *byteReader) bytes32() []byte {
	head := c.next(4)
	if c.short {
		return nil
	}
	n := int32(binary.BigEndian.Uint32(head))
	if n < 0 {
		return nil
	}
	return c.next(int64(n))
}

// A byteReader reads the values of messages. Methods return zero values once there are too few
// bytes.
type byteReader struct {
	b     []byte
	short bool // there were too few bytes, or a length was invalid
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
