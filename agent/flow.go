package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"kcagent/fetch"
	"kcagent/limits"
	"kcagent/sink"
)

// flow is the hot path of one partition: record → chunk → sink. It returns when the
// round is over. What the sink does not store is given back at once, with the memory
// that it needed, and fetched again later: meanwhile the partition takes part in no
// fetch, and others have its turn.
func (s *session) flow(ctx context.Context, p *partition, sub *fetch.Subscription) error {
	var wait backoff
	for s.await(ctx, p, sub) == nil {
		if s.slots.take(ctx) != nil {
			break
		}
		c, err := s.read(ctx, p, sub)
		stored := c.stored
		if err == nil && stored == nil && c.moved && !c.jumped && (!c.large || c.Next != p.next()) {
			stored = s.store(ctx, p, c)
		}
		c.free()
		s.slots.give()
		switch {
		case positionLost(err): // the watchdog reports it
			wait.wait(ctx, nil)
			sub.Retry()
		case err != nil:
			return err
		case c.jumped:
			if err := s.jump(ctx, p, c.Next, c.Epoch); err != nil {
				return err
			}
		case !c.moved: // it was dropped, for others needed the memory
		case stored == nil:
			s.works(p)
			wait.reset()
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(stored, sink.ErrReopen):
			return stored
		case errors.Is(stored, errPaused):
			s.works(p)
			rewind(p, sub)
		default:
			rewind(p, sub)
			s.failed(p, stored)
			wait.wait(ctx, nil)
		}
	}
	return ctx.Err()
}

// rewind makes the fetcher return again what the sink did not accept.
func rewind(p *partition, sub *fetch.Subscription) {
	at, _ := p.position()
	sub.Rewind(at.Next, at.Epoch)
}

// await waits for something to take. While writes fail it looks whether the consumer was
// paused: then there is nothing to be stored, and nothing fails.
func (s *session) await(ctx context.Context, p *partition, sub *fetch.Subscription) error {
	for p.sinkFailed {
		if s.gate.IsShut() {
			s.works(p)
			break
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		err := sub.Wait(short)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return sub.Wait(ctx)
}

// A slots is how many chunks of a consumer may be on their way at a time.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slots) give() { <-s }

// A chunk is encoded records on their way into the sink.
type chunk struct {
	sink.Chunk
	buf     *[]byte // of Data; nil if there is no record
	moved   bool    // there is something, even if it is only a position
	jumped  bool    // on_offset_out_of_range chose the position
	records int64
	bytes   int64 // of keys and values
	large   bool  // a single large record, which is stored already
	stored  error // of a large record
}

// What a consumer holds beside the fetcher's memory: of all its partitions, one
// encodes a chunk while another one's is written. A chunk may be longer by its
// last record, and is shorter where the memory limit requires it, see chunkSize.
const (
	chunkBytes   = 128 << 10
	chunksAtOnce = 2
)

// chunkSize is from which length on a chunk is complete.
func chunkSize() int { return limits.Records.Buffer(chunkBytes) }

// buffers are for all consumers: an idle one holds none.
var buffers = sync.Pool{New: func() any {
	size := chunkSize()
	b := make([]byte, 0, size+size/8)
	return &b
}}

// free gives the buffer back, except one that a huge record has enlarged.
func (c *chunk) free() {
	if c.buf != nil && cap(c.Data) <= 4*chunkSize() {
		*c.buf = c.Data[:0]
		buffers.Put(c.buf)
	}
}

// read encodes a chunk of the records that are available. It ends with the record that reaches the
// room that the sink has, so that a file can be completed at its size.
//
// A large record is a chunk of its own, which is stored at once: it is not copied.
func (s *session) read(ctx context.Context, p *partition, sub *fetch.Subscription) (c chunk, err error) {
	c.TopicPartition = p.TopicPartition
	limit := chunkSize()
	if room := s.sink.Room(p.TopicPartition); room > 0 {
		limit = min(limit, room)
	}
	r := sink.Record{Topic: p.Topic, Partition: p.Partition}
	c.Next, c.moved, err = sub.Take(func(f *fetch.Record) bool {
		size := sizeOf(f)
		if size >= largeRecord && c.records > 0 {
			f.PutBack()
			return false
		}
		r.Offset, r.Time, r.Key, r.Value, r.Headers = f.Offset, f.Time, f.Key, f.Value, r.Headers[:0]
		for _, h := range f.Headers {
			r.Headers = append(r.Headers, sink.Header{Key: h.Key, Value: h.Value})
		}
		if size >= largeRecord {
			c.large, c.stored = true, s.storeLarge(ctx, p, &r, f.Epoch)
			return false
		}
		if c.buf == nil {
			c.buf = buffers.Get().(*[]byte)
			c.Data = *c.buf
		}
		c.Last = len(c.Data)
		c.Data = s.sink.Encode(c.Data, &r)
		c.records++
		c.bytes += int64(len(f.Key) + len(f.Value))
		return len(c.Data) < limit
	})
	c.jumped, c.Epoch = c.moved && sub.Jumped(), sub.Epoch()
	return c, err
}

// errPaused is why a chunk was not stored: the gate is shut.
var errPaused = errors.New("the consumer is paused")

// store brings a chunk into the sink, once. A chunk without records moves the position
// in the ledger all the same.
func (s *session) store(ctx context.Context, p *partition, c chunk) error {
	if !s.gate.Enter() {
		return errPaused
	}
	defer s.gate.Leave()
	if err := s.sink.Write(ctx, c.Chunk); err != nil {
		return err
	}
	s.accepted(p, c)
	return nil
}

// accepted counts what the sink took and wakes the flusher where it is due.
func (s *session) accepted(p *partition, c chunk) {
	p.accept(c.Next, c.Epoch)
	if c.records > 0 {
		s.stats.records.Add(c.records)
		s.stats.bytes.Add(c.bytes)
		s.stats.lastRecord.Store(time.Now().UnixNano())
	}
	before := s.unflushed.Add(c.bytes) - c.bytes
	if before == 0 {
		signal(s.dirty)
	}
	if limit := int64(s.flushSettings().Bytes); before < limit && before+c.bytes >= limit {
		signal(s.kick)
	}
}
