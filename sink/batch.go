package sink

import (
	"context"
	"io"
	"sync"
)

const (
	chunkBytes  = 256 << 10 // what is encoded before it is written
	pooledBytes = 1 << 20   // a buffer that a huge record made larger than this is let go
)

// batches holds buffers between two Writes, for all sinks of the process: an
// idle consumer holds none, and the garbage collector empties the pool.
var batches = sync.Pool{New: func() any { return new(batch) }}

// A batch is records on their way into a sink: a chunk of them encoded, the
// rest still to come, so that memory is bounded by a chunk and one record,
// however many records a Write brings.
type batch struct {
	chunk  []byte
	rest   []Record
	encode encoder
}

// newBatch encodes the first chunk of recs; most batches are no longer than
// that. free must be called after use.
func newBatch(encode encoder, recs []Record) *batch {
	b := batches.Get().(*batch)
	b.encode, b.rest = encode, recs
	b.fill()
	return b
}

func (b *batch) fill() {
	b.chunk = b.chunk[:0]
	for len(b.rest) > 0 && len(b.chunk) < chunkBytes {
		b.chunk = b.encode(b.chunk, &b.rest[0])
		b.rest = b.rest[1:]
	}
}

// writeTo writes the whole batch and returns how many bytes reached w, be it
// all or those before an error.
func (b *batch) writeTo(w io.Writer) (int64, error) {
	var written int64
	for len(b.chunk) > 0 {
		n, err := writeAll(w, b.chunk)
		written += int64(n)
		if err != nil {
			return written, err
		}
		b.fill()
	}
	return written, nil
}

// free gives the buffer back.
func (b *batch) free() {
	b.rest, b.encode = nil, nil
	if cap(b.chunk) > pooledBytes {
		b.chunk = nil
	}
	batches.Put(b)
}

// writeAll goes on after a short write: a nearly full disk answers with one,
// and only the next write tells the error.
func writeAll(w io.Writer, p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := w.Write(p[written:])
		written += n
		if err != nil {
			return written, err
		}
		if n == 0 {
			return written, io.ErrShortWrite
		}
	}
	return written, nil
}

// A turn is a mutex that can be waited for with a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn. A turn that is free is taken even if ctx has ended:
// what need not wait need not fail.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }
