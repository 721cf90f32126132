package objects

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/spool"
)

// Write implements [sink.Sink]. The records are in the spool when it returns.
func (s *objectsSink) Write(ctx context.Context, c sink.Chunk) error {
	p := s.partition(c.TopicPartition)
	if err := p.write.Lock(ctx); err != nil {
		return err
	}
	defer p.write.Unlock()
	r, o, closed, err := p.prepare(&c)
	if closed {
		s.due()
	}
	if err != nil {
		return fmt.Errorf("write records of %s/%d: %w", c.Topic, c.Partition, err)
	}
	switch {
	case o == nil:
	case c.Large != nil:
		err = o.file.AppendLarge(ctx, r.format, c.Large)
	default:
		err = o.file.Append(c.Data)
	}
	if p.written(r, o, &c, err) {
		s.due()
	}
	if spool.Full(err) {
		s.freeSpace()
	}
	return err
}

// prepare returns the range and the object of a chunk; no object if the chunk is empty. Until written
// is called, no range is closed. closed says that prepare has closed the range before.
func (p *partition) prepare(c *sink.Chunk) (r *offsetRange, o *object, closed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.lost != nil:
		return nil, nil, false, p.lost
	case !p.begun:
		return nil, nil, false, fmt.Errorf("the partition has no position; %w", sink.ErrReopen)
	case p.adopted() && p.ranges[0].closed: // the caller calls Resume once the plan is completed
		if c.Empty() {
			return nil, nil, false, nil
		}
		return nil, nil, false, fmt.Errorf("a plan is completed first; %w", sink.ErrReopen)
	}
	r = p.growing()
	p.writing = true
	if c.Empty() {
		return r, nil, false, nil
	}
	if r.records == 0 && !r.adopted { // an edit since the range began applies
		r.settings, r.rotate = p.sink.current.Load(), p.sink.spec.Load().Rotate
	}
	o, err = r.object(p, c)
	if o == nil && err == nil { // too many windows
		p.close(r)
		closed = true
		r = p.growing()
		o, err = r.object(p, c)
	}
	if err != nil {
		p.writing = false
	}
	return r, o, closed, err
}

// written records the result of a Write. It reports whether a flush is due, because the range is
// closed.
func (p *partition) written(r *offsetRange, o *object, c *sink.Chunk, err error) (due bool) {
	if r == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = false
	now := p.sink.options.Now()
	before := r.since
	if err == nil {
		r.accepted(c, o, now)
	} else if o.records == 0 {
		r.objects = slices.DeleteFunc(r.objects, func(other *object) bool { return other == o })
		o.file.Remove()
	}
	if isReopen(err) {
		p.lost = err
	}
	due = p.closeIfDue(r, now)
	if before.IsZero() && !r.closed {
		p.sink.timer.Set(r.dueAt())
	}
	return due
}

// freeSpace closes all ranges of the consumer that have records, because the disk of the spool is
// full: once they are published, their files are removed. It does nothing while ranges are closed
// already; otherwise a disk that stays nearly full would cause many small objects.
func (s *objectsSink) freeSpace() {
	all := s.all()
	for _, p := range all {
		p.mu.Lock()
		n := p.closed()
		p.mu.Unlock()
		if n > 0 {
			return
		}
	}
	now := s.options.Now()
	for _, p := range all {
		p.mu.Lock()
		if n := len(p.ranges); n > 0 && p.ranges[n-1].records > 0 && !p.ranges[n-1].adopted {
			r := p.ranges[n-1]
			r.due = true
			p.closeIfDue(r, now)
		}
		p.mu.Unlock()
	}
	s.due()
}

// Limits implements [sink.Sink].
func (s *objectsSink) Limits(tp sink.TopicPartition) (l sink.Limits, ok bool) {
	p := s.partition(tp)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.adopted() {
		r := p.ranges[0]
		return sink.Limits{Before: r.plan.Next}, !r.closed
	}
	if p.closed() >= maxClosed {
		p.blocked = true
		return l, false
	}
	return sink.Limits{Bytes: p.room()}, true
}

// room returns how many bytes the next chunk should have; 0 means no limit. By how much a chunk
// enlarges a compressed object is not known in advance. The caller holds mu.
func (p *partition) room() int {
	size, codec := int64(p.sink.spec.Load().Rotate.Size), p.sink.current.Load().codec
	left := size
	if n := len(p.ranges); n > 0 && p.ranges[n-1].records > 0 && !p.ranges[n-1].closed {
		r := p.ranges[n-1]
		size, codec = int64(r.rotate.Size), r.codec
		left = size
		for _, o := range r.objects {
			left = min(left, size-o.size)
		}
	}
	if size == 0 || codec != sink.Uncompressed {
		return 0
	}
	return int(max(1, min(left, 1<<30)))
}

// Flush implements [sink.Sink]. It writes nothing, and waits for nothing.
func (s *objectsSink) Flush(ctx context.Context, all bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := make(map[sink.TopicPartition]error)
	now := s.options.Now()
	s.timer.Reset(time.Time{}) // before the partitions are listed: a new one sets it again
	for _, p := range s.all() {
		dueAt, fault := p.flush(now, all)
		s.timer.Set(dueAt)
		if fault != nil {
			failed[p.tp] = fault
		}
	}
	if len(failed) > 0 {
		return &sink.FlushError{Failed: failed}
	}
	return nil
}
