package file

import (
	"context"
	"errors"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"

	"kcagent/sink"
	"kcagent/sink/file/writer"
)

// flushesAtOnce is how many files of one sink are flushed concurrently. Syncs that wait
// together become durable with fewer writes to the disk.
const flushesAtOnce = 8

// Flush implements [sink.Sink]. It covers exactly what was accepted before the flush point
// of each file; records are accepted meanwhile.
func (s *fileSink) Flush(ctx context.Context, _ bool) error {
	ws := s.toFlush()
	failed := make(map[sink.TopicPartition]error)
	var unassigned error // of writers that serve no partition yet
	var mu sync.Mutex
	flush := func(w *writer.Writer, write uint64) {
		err := w.Flush(ctx)
		of, serves := w.Failures(err)
		if err == nil && len(of) == 0 && s.template != nil {
			s.flushed(w, write)
		}
		mu.Lock()
		defer mu.Unlock()
		for tp, err := range of {
			failed[tp] = worse(failed[tp], err)
		}
		if !serves {
			unassigned = errors.Join(unassigned, err)
		}
	}
	if len(ws) == 1 {
		for w, write := range ws {
			flush(w, write)
		}
	} else {
		var g errgroup.Group
		g.SetLimit(flushesAtOnce)
		for w, write := range ws {
			g.Go(func() error { flush(w, write); return nil })
		}
		_ = g.Wait() // no function returns an error
	}
	s.timer.Reset(s.deadline())
	if len(failed) > 0 {
		return &sink.FlushError{Failed: failed}
	}
	return unassigned
}

// worse returns the error of two that a Flush reports for a partition of which two files failed: after
// [sink.ErrReopen] it has to resume. Otherwise the error does not depend on which file was flushed
// first.
func worse(a, b error) error {
	switch {
	case a == nil:
		return b
	case errors.Is(a, sink.ErrReopen) != errors.Is(b, sink.ErrReopen):
		if errors.Is(b, sink.ErrReopen) {
			return b
		}
	case b.Error() < a.Error():
		return b
	}
	return a
}

// Close implements [sink.Sink]. It does not remove checkpoint files: another process may
// have just opened one, and a third process would create and lock another one.
func (s *fileSink) Close(end bool) error {
	s.timer.Stop()
	known := make(map[sink.TopicPartition]error)
	for _, w := range s.writers() {
		of, _ := w.Failures(nil)
		maps.Copy(known, of)
	}
	err := without(s.Flush(context.Background(), true), known)
	if end && s.Rules() != nil {
		for _, w := range s.writers() {
			err = errors.Join(err, w.CompleteLast())
		}
	}
	s.keeper.Stop(end)
	for _, w := range s.writers() {
		err = errors.Join(err, w.Close())
	}
	return err
}

// without removes from the error of a flush the partitions of which the caller already knows
// that they have to resume.
func without(err error, known map[sink.TopicPartition]error) error {
	var some *sink.FlushError
	if !errors.As(err, &some) {
		return err
	}
	maps.DeleteFunc(some.Failed, func(tp sink.TopicPartition, _ error) bool { return known[tp] != nil })
	if len(some.Failed) == 0 {
		return nil
	}
	return some
}
