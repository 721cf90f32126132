package generation

import (
	"context"
	"sync"
	"time"

	"kcagent/agent/reject"
	"kcagent/fetch"
	"kcagent/limits"
	"kcagent/sink"
)

// A chunk is a number of encoded records for the sink.
type chunk struct {
	sink.Chunk
	buf      *[]byte // of Data; nil if there is no record
	moved    bool    // the position has moved, perhaps without records
	reset    bool    // on_offset_out_of_range chose the position
	records  int64   // without the rejected ones
	bytes    int64   // of their keys and values
	rejected reject.Tally
	taken    int  // records, the rejected ones included
	consumed int  // their size, and what dead letters need in addition; a record may have none
	large    bool // a single large record, which was stored already

	first, last time.Time // timestamps of its first record, rejected or not, and of the last one that is stored; zero if unknown
	stored      error     // why storing it failed, or why it cannot be stored
}

// ChunksAtOnce is how many chunks of a consumer are in progress at a time: one of its
// partitions encodes a chunk while that of another is written. This is the memory that a
// consumer needs in addition to the fetcher's.
const ChunksAtOnce = 2

// chunkBytes is the size from which on a chunk is complete, so it may be longer by its last
// record. The memory limit may require less, see chunkSize.
const chunkBytes = 128 << 10

// letterBytes is what a dead letter needs in memory, in addition to its record.
const letterBytes = 512

// chunkSize returns the size from which on a chunk is complete now.
func chunkSize() int { return limits.Records.Buffer(chunkBytes) }

// buffers has the buffers of chunks. All consumers share it, so that an idle one needs no
// memory.
var buffers = sync.Pool{New: func() any {
	size := chunkSize()
	b := make([]byte, 0, size+size/8)
	return &b
}}

// free returns the buffer to buffers, unless a large record has made it much larger.
func (c *chunk) free() {
	if c.buf != nil && cap(c.Data) <= 4*chunkSize() {
		*c.buf = c.Data[:0]
		buffers.Put(c.buf)
	}
}

// read encodes a chunk of the records that are available. The chunk ends with the record
// that reaches the room of the sink, so that a file can be completed at its size.
//
// A large record is a chunk of its own, which read stores at once, so that the record is
// not copied.
func (g *Generation) read(ctx context.Context, p *Partition, sub *fetch.Subscription) (c chunk, err error) {
	c.TopicPartition = p.TopicPartition
	limit := chunkSize()
	if room := g.env.Sink.Room(p.TopicPartition); room > 0 {
		limit = min(limit, room)
	}
	var latest *fetch.Record // the same one in each call, so that it costs nothing to know the last
	c.Next, c.moved, err = sub.Take(func(f *fetch.Record) bool {
		r := &f.Record
		size := sizeOf(r)
		if size >= LargeRecord && c.taken > 0 {
			f.PutBack()
			latest = nil
			return false
		}
		r.Topic, r.Partition = p.Topic, p.Partition
		if err := g.env.Rejects.Decode(r); err != nil {
			if c.first.IsZero() {
				c.first = r.Time
			}
			more := g.reject(ctx, p, &c, f, size, err)
			if !more {
				latest = nil
			}
			c.taken++
			c.consumed += size + letterBytes
			return more && c.consumed < limit
		}
		c.taken++
		c.consumed += size
		if size >= LargeRecord {
			c.large, c.stored = true, g.storeLarge(ctx, p, chunk{
				Chunk:   sink.Chunk{TopicPartition: p.TopicPartition, Large: r, Next: r.Offset + 1, Epoch: f.Epoch},
				records: 1, first: r.Time, last: r.Time,
				bytes: int64(len(r.Key) + len(r.Value)),
			})
			return false
		}
		if c.buf == nil {
			if c.first.IsZero() {
				c.first = r.Time
			}
			c.last, latest = r.Time, f
			c.buf = buffers.Get().(*[]byte)
			c.Data = *c.buf
		}
		c.Last = len(c.Data)
		c.Data = g.env.Sink.Encode(c.Data, r)
		c.records++
		c.bytes += int64(len(r.Key) + len(r.Value))
		return len(c.Data) < limit
	})
	if latest != nil {
		c.last = latest.Time
	}
	c.reset, c.Epoch = c.moved && sub.WasReset(), sub.Epoch()
	return c, err
}

// reject applies on_error to a record that cannot be decoded. It reports whether the chunk
// may have further records.
func (g *Generation) reject(ctx context.Context, p *Partition, c *chunk, f *fetch.Record, size int, cause error) (more bool) {
	err := g.env.Rejects.Reject(&c.Chunk, &c.rejected, &f.Record, f.Epoch, cause)
	switch {
	case err != nil && c.taken > 0: // store the records before it first
		f.PutBack()
		return false
	case err != nil:
		c.stored = err
		return false
	case size < LargeRecord:
		return true
	}
	// It is the first record of the chunk. Its dead letter uses the record's bytes, so it is
	// written now.
	large := chunk{Chunk: c.Chunk, rejected: c.rejected, first: c.first}
	large.Next, large.Epoch = f.Offset+1, f.Epoch
	c.large, c.stored = true, g.storeLarge(ctx, p, large)
	return false
}

// LargeRecord is the size from which on a record is written in pieces, instead of being
// encoded into a buffer.
const LargeRecord = 2 * chunkBytes

// JSON encodes a control character as six bytes, such as \u0000, and adds some bytes to each
// header.
const (
	escapedByte = 6
	headerBytes = 32
)

// sizeOf returns how many bytes a record may need in any format. It does not count that a
// quote has two bytes in JSON.
func sizeOf(r *sink.Record) int {
	n := len(r.Key) + len(r.Value) + headerBytes*len(r.Headers)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	if n < LargeRecord/escapedByte || n >= LargeRecord { // it makes no difference
		return n
	}
	n += (escapedByte - 1) * (controls(r.Key) + controls(r.Value))
	for _, h := range r.Headers {
		n += (escapedByte - 1) * (controls(h.Key) + controls(h.Value))
	}
	return n
}

// controls counts control characters.
func controls(b []byte) (n int) {
	for _, c := range b {
		if c < ' ' {
			n++
		}
	}
	return n
}
