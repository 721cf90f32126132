package fetch

import (
	"context"
	"slices"
	"time"

	"kcagent/fetch/batch"
	"kcagent/fetch/metadata"
	"kcagent/leader"
)

// A queuedPart is a part that was fetched for a subscription and is not read yet.
type queuedPart struct {
	part  batch.Part
	frame *batch.Frame
	since time.Time // in the queue
	begun bool      // some of it was taken
}

// Read is Wait and Take in one.
func (s *Subscription) Read(ctx context.Context, each func(*batch.Record) bool) (next int64, err error) {
	for {
		if err := s.Wait(ctx); err != nil {
			return 0, err
		}
		if next, ok, err := s.Take(each); ok || err != nil {
			return next, err
		}
	}
}

// Wait returns nil when there is something to take, or ctx's error. While
// nobody waits, and for a moment after a Take, nothing is fetched.
func (s *Subscription) Wait(ctx context.Context) error {
	for !s.something() {
		select {
		case <-s.ready:
		case <-ctx.Done():
			s.f.mu.Lock()
			s.reading = false
			s.touch()
			s.f.mu.Unlock()
			return ctx.Err()
		}
	}
	return nil
}

// something reports whether there is something to take; if not, it has it
// fetched.
func (s *Subscription) something() bool {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.reading {
		s.eager = time.Since(s.returned) < leftLying
	}
	s.reading = !s.available()
	s.touch()
	if s.reading && s.fetchable() {
		s.wakeLane()
	}
	return !s.reading
}

func (s *Subscription) available() bool {
	return s.closed || s.f.ended || s.fatal != nil || s.announce && s.want == lookupNone || len(s.queue) > 0 && !s.paused
}

// Take hands the records that are there to each, in order, until each returns
// false or what one answer brought is used up; ok is false if there is nothing,
// for what was there may be dropped when others need the memory. It returns the
// offset to go on at, which is not always the last record's plus one, and there
// may be no record at all: compaction leaves holes, transactions leave marks, and
// a position was found good, looked up or reset.
//
// The Record is the same at each call and its bytes are lent: each copies what
// it keeps. It must not block, because it holds memory of many consumers, except to write a
// large record without a copy of it. Each may put the record back before it returns false.
//
// Take fails with [ErrClosed], [ErrEnded], an [OutOfRangeError] or a
// [RenewedError]; everything else is retried, and shown by LastError meanwhile.
func (s *Subscription) Take(each func(*batch.Record) bool) (next int64, ok bool, err error) {
	p, err := s.take()
	if p == nil {
		return 0, false, err
	}
	next, err = p.part.Each(each)
	s.settle(p, next, err)
	return next, true, nil
}

// Jumped reports that the last Take moved the position because it was out of range. It
// is called by the goroutine that calls Take.
func (s *Subscription) Jumped() bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.jumped
}

// Epoch returns the leader epoch of the last record before the position that the last
// Take returned. It is called by the goroutine that calls Take.
func (s *Subscription) Epoch() leader.Epoch {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.taken
}

// take returns the first part of the queue, or nil if there is none.
func (s *Subscription) take() (*queuedPart, error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	s.jumped = false
	s.touch()
	switch {
	case s.closed:
		return nil, ErrClosed
	case f.ended:
		return nil, metadata.ErrEnded
	case s.fatal != nil:
		return nil, s.fatal
	case !s.available():
		return nil, nil
	case s.announce && s.want == lookupNone:
		s.jumped, s.reset, s.announce = s.reset, false, false
		s.busy = true
		return &queuedPart{part: batch.Part{Next: s.next, Last: s.nextEpoch}}, nil
	}
	p := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1) // a part that stays in the array would keep its frame's memory
	s.busy, p.begun, p.part.Epoch = true, true, s.nextEpoch
	s.wakeLane() // there is room for the next
	return p, nil
}

// settle takes the part back after Take has used it up to next.
func (s *Subscription) settle(p *queuedPart, next int64, err error) {
	f := s.f
	var told calls
	defer func() { told.run() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	s.busy, s.returned = false, time.Now()
	s.next, s.nextEpoch, s.taken = next, p.part.Epoch, p.part.Epoch
	s.touch()
	if err != nil {
		f.unref(p.frame)
		s.drop(next)
		s.unreadable(err, &told)
		return
	}
	switch {
	case s.moved:
		s.moved = false
		s.pos, s.posEpoch = next, p.part.Epoch
		f.unref(p.frame)
		s.wakeLane()
	case !p.part.Empty():
		p.since = s.returned
		s.queue = append([]*queuedPart{p}, s.queue...)
	default:
		f.unref(p.frame)
		if s.want != lookupNone {
			s.wakeLane()
		}
	}
}
