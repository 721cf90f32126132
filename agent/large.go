package agent

import (
	"context"
	"errors"

	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/sink"
)

// largeRecord is the size from which on a record is written in pieces instead of being
// encoded into a buffer.
const largeRecord = 2 * chunkBytes

// JSON encodes a control character as six bytes, such as \u0000, and adds some to each header.
const (
	escapedByte = 6
	headerBytes = 32
)

// sizeOf is how many bytes a format may make of a record, apart from quotes, which are
// twice as long in JSON.
func sizeOf(r *fetch.Record) int {
	n := len(r.Key) + len(r.Value) + headerBytes*len(r.Headers)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	if n < largeRecord/escapedByte || n >= largeRecord { // it makes no difference
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

// storeLarge writes a large record to the sink, which uses its bytes until storeLarge
// returns. A pause does not wait for a slow sink: the write ends early, and the record is
// read again later.
func (s *session) storeLarge(ctx context.Context, p *partition, r *sink.Record, epoch leader.Epoch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	written := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-s.gate.Closing():
			cancel(errPaused)
		case <-written:
		}
	}()
	defer func() {
		close(written)
		<-watched
		cancel(nil)
	}()
	err := s.store(ctx, p, chunk{
		Chunk:   sink.Chunk{TopicPartition: p.TopicPartition, Large: r, Next: r.Offset + 1, Epoch: epoch},
		records: 1,
		bytes:   int64(len(r.Key) + len(r.Value)),
	})
	if err != nil && !errors.Is(err, sink.ErrReopen) && errors.Is(context.Cause(ctx), errPaused) {
		return errPaused
	}
	return err
}
