package generation

import (
	"context"
	"runtime"
	"time"

	"kcagent/agent/reject"
	"kcagent/buffers"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/limits"
	"kcagent/sink"
)

// A chunk is a number of encoded records for the sink.
type chunk struct {
	sink.Chunk
	moved    bool  // the position has moved, perhaps without records
	reset    bool  // on_offset_out_of_range chose the position
	records  int64 // without the rejected ones
	bytes    int64 // of their keys and values
	rejected reject.Tally
	taken    int  // records, the rejected ones included
	consumed int  // bytes of these records, and what their dead letters need in addition; may be 0
	large    bool // a single large record, which was stored already

	first, last time.Time // timestamps of its first record, rejected or not, and of the last one that is stored; zero if unknown
	stored      error     // why storing it failed, or why it cannot be stored
}

// ChunksAtOnce returns how many chunks of a consumer may be in progress at a time, each of
// another partition: as many as the process may use cores, so that their encoding and
// compression can use all of them, and at least two, so that one is encoded while another one is
// written.
func ChunksAtOnce() int { return max(2, runtime.GOMAXPROCS(0)) }

// wantedBuffer is what the memory limit must leave for each buffer of a consumer with more
// than two chunks in progress. Fewer chunks that are longer cost less.
const wantedBuffer = 32 << 10

// chunksFor returns how many chunks of a consumer with some partitions may be in progress at a
// time.
func chunksFor(partitions int, compressed bool) int {
	fit := limits.Records.SpareBuffers(wantedBuffer) / buffersOf(1, compressed)
	return min(partitions, ChunksAtOnce(), max(2, fit))
}

// buffersOf returns how many buffers some chunks need: one each and, if the sink compresses, one
// for the frame of each, and one for records that are not compressed yet.
func buffersOf(chunks int, compressed bool) int {
	if compressed && chunks > 0 {
		return 2*chunks + 1
	}
	return chunks
}

// compresses reports whether the sink of a consumer compresses.
func compresses(spec *config.Consumer) bool {
	var c sink.Compression
	switch {
	case spec.Sink.File != nil:
		c = spec.Sink.File.Compression
	case spec.Sink.Objects != nil:
		c = spec.Sink.Objects.Compression
	}
	return c != "" && c != sink.Uncompressed
}

// chunkBytes is the size from which on a chunk is complete, so it may be longer by its last
// record. The memory limit may require less, see chunkSize.
const chunkBytes = 128 << 10

// envelopeBytes is what a format is likely to add to a record at most.
const envelopeBytes = 512

// letterBytes is what a dead letter needs in memory, in addition to its record.
const letterBytes = 512

// chunkSize returns the size from which on a chunk is complete now.
func chunkSize() int { return limits.Records.Buffer(chunkBytes) }

// makeRoom provides room for one more record of some bytes before its encoding. size is what the
// buffer of the whole chunk is likely to need: an agent with a thousand consumers that get a
// record now and then needs a thousand small buffers. limit is the size of a complete chunk.
func (c *chunk) makeRoom(record, size, limit int) {
	full := limit + limit/4
	switch {
	case c.Data == nil:
		c.Data = buffers.Get(bufferSize(max(size, record), full))
	case len(c.Data)+record > cap(c.Data) && cap(c.Data) < full:
		larger := append(buffers.Get(bufferSize(len(c.Data)+record, full)), c.Data...)
		buffers.Put(c.Data)
		c.Data = larger
	}
}

// Sizes of the buffers of short chunks.
const (
	smallBuffer  = 4 << 10
	mediumBuffer = 32 << 10
)

// bufferSize returns the size of a buffer for n bytes of a chunk that has full bytes at most. There
// are few sizes, so that a busy consumer always uses the same buffers, which are in the processor's
// cache.
func bufferSize(n, full int) int {
	switch {
	case n <= smallBuffer:
		return min(smallBuffer, full)
	case n <= mediumBuffer:
		return min(mediumBuffer, full)
	}
	return full
}

// free makes the buffer available to other chunks of all consumers, unless a record has made it
// much larger than a chunk. An idle consumer holds none.
func (c *chunk) free() {
	if cap(c.Data) <= 4*chunkSize() {
		buffers.Put(c.Data)
	}
	c.Data = nil
}

// read encodes a chunk of the records that are available. The chunk ends with the record
// that reaches the limit of the sink, so that a file can be completed at its size. It ends before a
// record of another window, and before a record that the sink does not take yet.
//
// A large record is a chunk of its own, which read stores at once, so that the record is
// not copied.
func (g *Generation) read(ctx context.Context, p *Partition, sub *fetch.Subscription, plan *sink.Plan) (chunk, error) {
	if p.encoder == nil {
		p.encoder = g.env.Sink.Encoder(p.TopicPartition)
	}
	r := chunkReader{
		limit: chunkSize(), expansion: p.expansion, encoder: p.encoder, rejects: p.rejects,
		storeLarge: func(c chunk) error {
			if err := checkPlan(p, plan, c); err != nil {
				return err
			}
			return g.storeLarge(ctx, p, c)
		},
	}
	r.TopicPartition = p.TopicPartition
	l, _ := g.env.Sink.Limits(p.TopicPartition)
	r.start, r.before = p.NextOffset(), l.Before
	if l.Bytes > 0 {
		r.limit = min(r.limit, l.Bytes)
	}
	var err error
	r.Next, r.moved, err = sub.TakePart(r.read)
	p.expansion.observe(&r.chunk)
	r.reset, r.Epoch = r.moved && sub.WasReset(), sub.Epoch()
	return r.chunk, err
}

// A chunkReader reads records into a chunk.
type chunkReader struct {
	chunk
	limit      int       // the size from which on the chunk is complete
	start      int64     // the position before the chunk
	before     int64     // see [sink.Limits]
	window     window    // of the records in the chunk
	fits       int       // bytes that a buffer needs for the records that can be read now
	expansion  expansion // of an earlier chunk
	encoder    sink.Encoder
	rejects    *reject.Rules
	storeLarge func(chunk) error
}

// A window is the window of the first record of a chunk that the sink stores.
type window struct {
	sink.Window
	limited bool // it does not have all timestamps
}

// setWindow sets the window of the chunk by its first record.
func (c *chunkReader) setWindow(first time.Time) (from, to time.Time) {
	w := c.encoder.Window(first)
	c.window = window{w, !w.Unlimited()}
	return w.From, w.To
}

// read reads records of part until the chunk is complete. It returns the offset to continue at: not
// one after c.before, although there may be no record between the two. A later leader may have
// written what follows c.before.
func (c *chunkReader) read(part *fetch.Part) (next int64, err error) {
	next, err = c.readRecords(part)
	if c.start < c.before && c.before < next {
		next, part.Epoch = c.before, part.ReadEpoch
	}
	return next, err
}

func (c *chunkReader) readRecords(part *fetch.Part) (next int64, err error) {
	if c.encoder.ValueOnly() && !c.rejects.Decodes() {
		if next, handOver, err := c.appendValues(part); !handOver {
			return next, err
		}
	}
	c.fits = c.expansion.encoded(part.Size(c.limit))
	return part.Each(c.append)
}

// appendValues adds the values of records, until the chunk is complete or the next record may be
// large. If handOver is true, append has to add the next record.
func (c *chunkReader) appendValues(part *fetch.Part) (next int64, handOver bool, err error) {
	if !part.Empty() {
		c.makeRoom(0, part.Size(c.limit), c.limit) // a value has fewer bytes than its record
	}
	v := fetch.Values{Data: c.Data}
	next, handOver, err = part.AppendValues(&v, fetch.ValueLimits{
		Data: c.limit, Record: LargeRecord / escapedByte, Header: headerBytes,
		Before: c.before, Window: c.setWindow,
	})
	c.Data, c.Last, c.taken, c.consumed = v.Data, v.Last, v.Records, len(v.Data)
	c.records, c.bytes, c.first, c.last = int64(v.Records), v.Bytes, v.First, v.Time
	c.Count, c.Time = v.Records, v.First
	return next, handOver, err
}

// append adds a record, or applies on_error to it. It reports whether the chunk may have further
// records.
func (c *chunkReader) append(f *fetch.Record) (more bool) {
	r := &f.Record
	size := sizeOf(r)
	if size >= LargeRecord && c.taken > 0 || c.before > 0 && r.Offset >= c.before {
		f.PutBack()
		return false
	}
	r.Topic, r.Partition = c.Topic, c.Partition
	first := c.taken == 0
	if err := c.rejects.Decode(r); err != nil {
		if first {
			c.first = r.Time
		}
		more := c.reject(f, size, err)
		c.taken++
		c.consumed += size + letterBytes
		return more && c.consumed < c.limit
	}
	switch {
	case c.records == 0:
		c.setWindow(r.Time)
	case c.window.limited && !c.window.Has(r.Time):
		f.PutBack()
		return false
	}
	c.taken++
	c.consumed += size
	if size >= LargeRecord {
		c.large, c.stored = true, c.storeLarge(chunk{
			Chunk:   sink.Chunk{TopicPartition: c.TopicPartition, Large: r, Next: r.Offset + 1, Epoch: f.Epoch, Count: 1, Time: r.Time},
			records: 1, first: r.Time, last: r.Time,
			bytes: int64(len(r.Key) + len(r.Value)),
		})
		return false
	}
	if first {
		c.first = r.Time
	}
	if c.Count++; c.Count == 1 {
		c.Time = r.Time
	}
	c.makeRoom(size+envelopeBytes, c.fits, c.limit)
	c.Last, c.last = len(c.Data), r.Time
	c.Data = c.encoder.Append(c.Data, r)
	c.records++
	c.bytes += int64(len(r.Key) + len(r.Value))
	return len(c.Data) < c.limit
}

// reject applies on_error to a record that cannot be decoded. It reports whether the chunk
// may have further records.
func (c *chunkReader) reject(f *fetch.Record, size int, cause error) (more bool) {
	err := c.rejects.Reject(&c.Chunk, &c.rejected, &f.Record, f.Epoch, cause)
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
	c.large, c.stored = true, c.storeLarge(large)
	return false
}

// An expansion is how many bytes a chunk of a partition had for each byte that was read. The zero
// value is an unknown one.
type expansion float64

// recordBytes is what a record needs at least in a batch, in addition to its content.
const recordBytes = 7

// encoded returns how many bytes n bytes of records are likely to have in the sink's format.
func (e expansion) encoded(n int) int { return int(float64(n) * max(1, float64(e))) }

// observe stores the expansion of a chunk.
func (e *expansion) observe(c *chunk) {
	if c.records > 0 {
		*e = expansion(float64(len(c.Data)) / float64(c.consumed+recordBytes*c.taken))
	}
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
