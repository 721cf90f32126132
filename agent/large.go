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

// sizeOf is how many bytes of a record a format may have to encode.
func sizeOf(r *fetch.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// storeLarge brings a large record into the sink, whose bytes are lent until it returns. A
// pause does not wait until a slow sink has taken all of it: the record is given up, and read
// again later.
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
