package fetch

import (
	"context"
	"slices"
	"time"

	"kcagent/fetch/batch"
	"kcagent/fetch/metadata"
	"kcagent/fetch/partition"
	"kcagent/leader"
	"kcagent/retry"
)

// Read waits until there is something to take, and takes it. See [Subscription.Take].
func (s *Subscription) Read(ctx context.Context, receive func(*batch.Record) bool) (next int64, err error) {
	for {
		if err := s.Wait(ctx); err != nil {
			return 0, err
		}
		if next, ok, err := s.Take(receive); ok || err != nil {
			return next, err
		}
	}
}

// Wait returns nil once there is something to take, or the error of ctx. Records are fetched only
// while the consumer waits, and ahead for a consumer that comes back soon.
func (s *Subscription) Wait(ctx context.Context) error {
	ready := retry.NewSignal()
	for !s.Poll(ready.Set) {
		select {
		case <-ready:
		case <-ctx.Done():
			s.f.mu.Lock()
			s.reader.waiting, s.reader.ready = false, nil
			s.touch()
			s.f.mu.Unlock()
			return ctx.Err()
		}
	}
	return nil
}

// Poll reports whether there is something to take. If not, it does not block: the partition is
// fetched from now on, and ready is called once as soon as the result may have changed. The caller
// then calls Poll again. A further Poll replaces ready. ready is called without a lock, from any
// goroutine, perhaps before Poll has returned or after Close, and must not block.
func (s *Subscription) Poll(ready func()) bool {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.reader.waiting {
		s.reader.prefetch = time.Since(s.reader.returnedAt) < unreadAfter
	}
	s.reader.waiting, s.reader.ready = !s.canTake(), nil
	if s.reader.waiting {
		s.reader.ready = ready
	}
	s.touch()
	if s.reader.waiting && s.currentState(time.Now()).fetchable() {
		s.wakeLane()
	}
	return !s.reader.waiting
}

// signal makes the consumer poll again, if it waits. f.mu is held.
func (s *Subscription) signal(later *callbacks) {
	later.add(s.reader.ready)
	s.reader.ready = nil
}

// canTake reports whether there is something to take: records, a position to report, or an error.
func (s *Subscription) canTake() bool {
	return s.closed || s.f.ended || s.fatal != nil || s.cursor.Report && s.cursor.Lookup == partition.LookupNone || len(s.cursor.Queue) > 0 && !s.paused
}

// Take calls receive for records of one response, in order, until receive returns false or there are
// no more. It returns the offset to continue at. That is not always the offset after the last
// record, because compaction and transactions leave gaps. There may be no record at all, because a
// position was confirmed, looked up or reset. ok is false if there is nothing: records that were
// fetched ahead may have been dropped because others needed the memory.
//
// The record is the same at each call, and its bytes are valid only during the call. receive must
// not block, because it holds memory that many consumers share, except to write a large record
// without a copy. It may put the record back before it returns false.
//
// Take fails with [ErrClosed], [ErrEnded], an [OutOfRangeError], a [TruncatedError] or a
// [RecreatedError]. After other errors the fetch is repeated, and LastError reports them meanwhile.
func (s *Subscription) Take(receive func(*batch.Record) bool) (next int64, ok bool, err error) {
	return s.TakePart(func(p *batch.Part) (next int64, err error) { return p.Each(receive) })
}

// TakePart is Take for a caller that reads the records of the response in its own way. read calls a
// method of the part, such as Each, and returns its result. It keeps nothing of the part, and must
// not block.
func (s *Subscription) TakePart(read func(*batch.Part) (next int64, err error)) (next int64, ok bool, err error) {
	p, err := s.takePart()
	if p == nil {
		return 0, false, err
	}
	next, err = read(&p.Part)
	s.finishPart(p, next, err)
	return next, true, nil
}

// WasReset reports whether the last Take returned a position that was reset, because the former one
// was out of range or the log was truncated. The goroutine that calls Take calls it.
func (s *Subscription) WasReset() bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.cursor.ReportedReset
}

// Epoch returns the leader epoch of the last record before the position that the last Take
// returned. The goroutine that calls Take calls it.
func (s *Subscription) Epoch() leader.Epoch {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.cursor.TakenEpoch
}

// takePart removes the first part from the queue and returns it, nil if there is none. A part
// without records reports a position.
func (s *Subscription) takePart() (*partition.QueuedPart, error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	s.cursor.ReportedReset = false
	s.touch()
	switch {
	case s.closed:
		return nil, ErrClosed
	case f.ended:
		return nil, metadata.ErrEnded
	case s.fatal != nil:
		return nil, s.fatal
	case !s.canTake():
		return nil, nil
	case s.cursor.Report && s.cursor.Lookup == partition.LookupNone:
		s.cursor.ReportedReset, s.cursor.Reset, s.cursor.Report = s.cursor.Reset, false, false
		s.reader.taking = true
		return &partition.QueuedPart{Part: batch.Part{Next: s.cursor.Next, Last: s.cursor.NextEpoch}}, nil
	}
	p := s.cursor.Queue[0]
	s.cursor.Queue = slices.Delete(s.cursor.Queue, 0, 1) // which clears the slot, so that it does not keep the memory of the frame
	s.reader.taking, p.Begun, p.Part.Epoch = true, true, s.cursor.NextEpoch
	s.wakeLane() // there is room for the next part
	return p, nil
}

// finishPart applies the end of a Take that has read the part up to next.
func (s *Subscription) finishPart(p *partition.QueuedPart, next int64, err error) {
	f := s.f
	var later callbacks
	defer func() { later.run() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	s.reader.taking, s.reader.returnedAt = false, time.Now()
	s.cursor.Next, s.cursor.NextEpoch, s.cursor.TakenEpoch = next, p.Part.Epoch, p.Part.Epoch
	s.touch()
	if err != nil {
		f.releasePart(p.Frame)
		s.drop(next)
		s.handleBadBatch(err, &later)
		s.wakeLane() // it has to know when the rest ends
		return
	}
	switch {
	case s.reader.moved:
		s.reader.moved = false
		s.cursor.FetchOffset, s.cursor.FetchEpoch = next, p.Part.Epoch
		f.releasePart(p.Frame)
		s.wakeLane()
	case !p.Part.Empty():
		p.Since = s.reader.returnedAt
		s.cursor.Queue = append([]*partition.QueuedPart{p}, s.cursor.Queue...)
	default:
		f.releasePart(p.Frame)
		if s.cursor.Lookup != partition.LookupNone {
			s.wakeLane()
		}
	}
}
