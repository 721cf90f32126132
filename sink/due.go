package sink

import (
	"errors"
	"time"
)

// deadline is when the clock completes the next file; zero if never.
func (s *fileSink) deadline() (next time.Time) {
	if r := s.Rules(); r == nil || r.Every == 0 {
		return next
	}
	for _, w := range s.writers() {
		if at := w.deadline(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Rules implements [retention.Files].
func (s *fileSink) Rules() *Rotate { return s.env.spec.Load().Rotate }

// CompleteDue implements [retention.Files].
func (s *fileSink) CompleteDue() bool {
	ok := true
	for _, w := range s.writers() {
		if err := w.completeIfDue(); err != nil {
			s.env.log.Warn("completing a file failed", "path", w.path, "error", err)
			ok = false
		}
	}
	s.timer.reset(s.deadline())
	return ok
}

// CompleteUnassigned implements [retention.Files].
func (s *fileSink) CompleteUnassigned(path string) bool {
	w := s.writerOf(path)
	err := w.completeUnassigned(func() bool { return s.lists(w) }, s.forgets(w))
	switch {
	case err == nil, errors.Is(err, ErrLocked): // another agent has it
		return true
	case !errors.Is(err, errDescriptors):
		s.env.log.Warn("completing the file of a partition that is not assigned failed", "path", path, "error", err)
	}
	return false
}
