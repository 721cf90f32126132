package sink

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// syncsAtOnce is how many files of one sink are synced side by side: a journal
// makes many syncs that wait together safe by one write.
const syncsAtOnce = 8

// A mark is how far a Flush covers one segment.
type mark struct {
	*segment
	f      File // the segment's at that time; a repair may change it
	length int64
}

// Flush implements [Sink]. It marks how far each file has come, syncs, and
// covers exactly the marks: records go on into the files meanwhile.
func (s *fileSink) Flush(ctx context.Context) error {
	if err := s.flushing.take(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", s.path, err)
	}
	defer s.flushing.give()
	if err := s.loss(); err != nil {
		return err
	}
	var marks []mark
	writers := s.writers()
	for _, w := range writers {
		ms, err := w.mark(ctx)
		if err != nil {
			return err
		}
		marks = append(marks, ms...)
	}
	if s.spec.Load().Durability != None {
		if err := s.sync(marks); err != nil {
			return err
		}
	}
	for _, m := range marks {
		m.safe = m.length
	}
	for _, w := range writers {
		w.dropRetired()
	}
	return nil
}

// sync makes everything up to the marks safe.
func (s *fileSink) sync(marks []mark) error {
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	for _, m := range marks {
		if m.synced != m.length {
			g.Go(m.sync)
		}
	}
	if err := g.Wait(); err != nil {
		s.lost.Store(&err)
		return err
	}
	return s.syncFolders(marks)
}

// sync makes one segment safe up to the mark. The kernel may have dropped what
// it could not write and would call the next sync on this descriptor good, so
// there is none.
func (m mark) sync() error {
	if err := m.f.Datasync(); err != nil {
		return fmt.Errorf("%w: %w", fault("sync", m.path, err), ErrLost)
	}
	m.synced = m.length
	return nil
}

// syncFolders makes the names of new files, and of new folders above them,
// safe. It opens the folders anew each time, so it may be tried again.
func (s *fileSink) syncFolders(marks []mark) error {
	done := map[string]bool{}
	for _, m := range marks {
		for _, dir := range m.folders {
			if done[dir] {
				continue
			}
			if err := s.fs.SyncDir(dir); err != nil {
				return fault("sync folder", dir, err)
			}
			done[dir] = true
		}
	}
	for _, m := range marks {
		m.folders = nil
	}
	return nil
}

// mark says how far the writer has come, after a look at whether the path still
// names the file that is written.
func (w *writer) mark(ctx context.Context) ([]mark, error) {
	if err := w.turn.take(ctx); err != nil {
		return nil, fmt.Errorf("flush %s: %w", w.path, err)
	}
	defer w.turn.give()
	if err := w.inspect(); err != nil {
		return nil, err
	}
	var marks []mark
	for _, g := range w.retired {
		marks = append(marks, mark{g, g.f, g.length})
	}
	if g := w.current; g != nil {
		marks = append(marks, mark{g, g.f, g.length})
	}
	return marks, nil
}

// dropRetired closes files that were moved away, once they are safe. Only
// Flush adds to them and only one Flush runs.
func (w *writer) dropRetired() {
	for _, g := range w.retired {
		if err := g.f.Close(); err != nil {
			w.sink.log.Warn("closing a moved sink file failed", "path", w.path, "error", err)
		}
	}
	w.retired = nil
}

// close releases everything; cut says that the sink is lost. No other call is
// under way.
func (w *writer) close(cut bool) error {
	var err error
	segments := w.retired
	if w.current != nil {
		segments = append(segments, w.current)
	}
	for _, g := range segments {
		if cut {
			err = errors.Join(err, w.cutToSafe(g))
		}
		if e := g.f.Close(); e != nil {
			err = errors.Join(err, fault("close", w.path, e))
		}
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	w.retired, w.current, w.lock = nil, nil, nil
	return err
}

// cutToSafe takes off what no good Flush has covered. It does so through a
// descriptor of its own if the path still names the file: a sync on the old one
// would mean nothing, and the cut itself is to last.
func (w *writer) cutToSafe(g *segment) error {
	f := w.again(g)
	anew := f != nil
	if !anew {
		f = g.f
	}
	info, err := f.Stat()
	if err == nil && info.Size() > g.safe {
		err = f.Truncate(g.safe)
		if err == nil && anew {
			err = f.Datasync()
		}
	}
	if anew {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fault("cut the unsafe end of", w.path, err)
	}
	return nil
}
