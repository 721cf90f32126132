package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kcagent/fetch"
	"kcagent/sink"
)

// consume is the hot path of one partition: record → chunk → sink. It returns
// when ctx ends, and not before: a sink error is retried in place.
func (s *session) consume(ctx context.Context, p *partition) {
	defer p.sub.Close()
	var wait backoff
	for p.sub.Wait(ctx) == nil {
		if s.writing.take(ctx) != nil {
			return
		}
		c, err := s.read(p)
		if err == nil {
			s.keep(ctx, p, c)
		}
		s.writing.give()
		if errors.As(err, new(*fetch.OutOfRangeError)) { // the watchdog reports it
			wait.wait(ctx, nil)
			p.sub.Retry()
			continue
		}
		if renewed := new(fetch.RenewedError); errors.As(err, &renewed) {
			s.abandon(err) // the next generation finds out where to begin in the new one
			break
		}
		if err != nil { // the agent ends
			break
		}
		wait.reset()
	}
	<-ctx.Done()
}

// keep brings a chunk into the sink, or takes it back.
func (s *session) keep(ctx context.Context, p *partition, c chunk) {
	switch {
	case c.buf != nil:
		if !(s.claim(ctx, p) && s.store(ctx, p, c)) && ctx.Err() == nil { // paused: nothing is kept meanwhile
			p.sub.Rewind(p.accepted.Load())
		}
		c.free()
	case c.moved && p.entered.Load() && c.Next != p.accepted.Load(): // the sink must be told
		if !s.store(ctx, p, c) && ctx.Err() == nil { // paused: the next record tells it
			s.accepted(p, c)
		}
	case c.moved:
		s.accepted(p, c)
	}
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
	moved   bool    // there is something, be it only a position
	records int64
	bytes   int64 // of keys and values
}

// What a consumer holds beside the fetcher's memory: of all its partitions, one
// encodes a chunk while another one's is written. A chunk may be longer by its
// last record.
const (
	chunkBytes   = 128 << 10
	chunksAtOnce = 2
)

// buffers are for all consumers: an idle one holds none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, chunkBytes+chunkBytes/8)
	return &b
}}

// free gives the buffer back, but for one that a huge record made huge.
func (c *chunk) free() {
	if c.buf != nil && cap(c.Data) <= 4*chunkBytes {
		*c.buf = c.Data[:0]
		buffers.Put(c.buf)
	}
}

// read encodes a chunk of what is there.
func (s *session) read(p *partition) (c chunk, err error) {
	c.TopicPartition = p.TopicPartition
	r := sink.Record{Topic: p.Topic, Partition: p.Partition}
	c.Next, c.moved, err = p.sub.Take(func(f *fetch.Record) bool {
		if c.buf == nil {
			c.buf = buffers.Get().(*[]byte)
			c.Data = *c.buf
		}
		r.Offset, r.Time, r.Key, r.Value, r.Headers = f.Offset, f.Time, f.Key, f.Value, r.Headers[:0]
		for _, h := range f.Headers {
			r.Headers = append(r.Headers, sink.Header{Key: h.Key, Value: h.Value})
		}
		c.Data = s.sink.Encode(c.Data, &r)
		c.records++
		c.bytes += int64(len(f.Key) + len(f.Value))
		return len(c.Data) < chunkBytes
	})
	return c, err
}

// store brings a chunk into the sink, however often it takes; false if the
// generation ended first or the gate was shut. While it waits, the partition
// takes part in no fetch.
func (s *session) store(ctx context.Context, p *partition, c chunk) bool {
	var wait backoff
	for failed := false; ; {
		if !s.gate.Enter() {
			if failed {
				s.report(writeOrigin(p), nil)
			}
			return false
		}
		err := s.sink.Write(ctx, c.Chunk)
		if err == nil {
			s.accepted(p, c)
		}
		s.gate.Leave()
		switch {
		case err == nil:
			if failed {
				s.report(writeOrigin(p), nil)
			}
			return true
		case ctx.Err() != nil:
			return false
		case errors.Is(err, sink.ErrLost):
			s.abandon(sinkError{err})
			<-ctx.Done()
			return false
		}
		failed = true
		s.stats.sinkErrors.Add(1)
		s.report(writeOrigin(p), err)
		if !wait.wait(ctx, nil) {
			return false
		}
	}
}

func writeOrigin(p *partition) string { return fmt.Sprintf("write %s/%d", p.Topic, p.Partition) }

// begin says that every position is known to be good. Those that start chose, at
// the end or at a time, are committed first: after a crash they would be chosen
// anew, behind the records that came meanwhile.
func (s *session) begin() {
	if s.pins {
		signal(s.kick)
		return
	}
	s.begun.Store(true)
	s.events <- event{kind: begun}
}

// accepted counts what the sink took and wakes the flusher where it is due. A
// chunk without records moves the position all the same.
func (s *session) accepted(p *partition, c chunk) {
	p.accepted.Store(c.Next)
	if !p.placed {
		p.placed = true
		if c.records == 0 && !p.entered.Load() {
			p.safe.Store(c.Next) // nothing was written yet: there is nothing to sync
		}
		if s.unplaced.Add(-1) == 0 {
			s.begin()
		}
	}
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
