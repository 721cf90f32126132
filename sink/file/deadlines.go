package file

import (
	"errors"
	"time"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/writer"
)

// deadline returns when the clock completes the next file; zero if it completes none.
func (s *fileSink) deadline() (next time.Time) {
	if r := s.Rules(); r == nil || r.Every == 0 {
		return next
	}
	for _, w := range s.writers() {
		if at := w.Deadline(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Rules implements [retention.Files].
func (s *fileSink) Rules() *sink.Rotate { return s.env.Spec.Load().Rotate }

// CompleteDue implements [retention.Files].
func (s *fileSink) CompleteDue() bool {
	ok := true
	for _, w := range s.writers() {
		if err := w.CompleteIfDue(); err != nil {
			s.env.Log.Warn("completing a file failed", logkey.Path, w.Path, logkey.Error, err)
			ok = false
		}
	}
	s.timer.Reset(s.deadline())
	return ok
}

// CompleteUnassigned implements [retention.Files].
func (s *fileSink) CompleteUnassigned(path string) bool {
	w := s.writerFor(path)
	err := w.CompleteUnassigned(func() bool { return s.isListed(w) }, s.dropper(w))
	switch {
	case err == nil, errors.Is(err, disk.ErrLocked): // another agent has it
		return true
	case !errors.Is(err, writer.ErrNoDescriptors):
		s.env.Log.Warn("completing the file of an unassigned partition failed", logkey.Path, path, logkey.Error, err)
	}
	return false
}
