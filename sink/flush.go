package sink

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// syncsAtOnce is how many files of one sink are synced side by side: a journal
// makes many syncs that wait together safe by one write.
const syncsAtOnce = 8

// A mark is how far a Flush covers one writer.
type mark struct {
	w *writer
	state
	seg     *segment // nil if there is no file
	f       File     // the segment's at that time; a repair may change it
	length  int64
	after   *segment // the one after seg, if seg is full
	last    bool     // seg gets no more records: nobody will cut it again
	folders []string // to be synced
}

// Flush implements [Sink]. It marks how far each file has come, syncs, and
// covers exactly the marks: records go on into the files meanwhile.
func (s *fileSink) Flush(ctx context.Context) error {
	if err := s.flushing.take(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", s.path, err)
	}
	defer s.flushing.give()
	// The first round covers full files, the second what came after them.
	for range 2 {
		if again, err := s.round(ctx); err != nil || !again {
			return err
		}
	}
	return nil
}

// round flushes each writer's oldest file. It says whether there is another.
func (s *fileSink) round(ctx context.Context) (again bool, err error) {
	if err := s.loss(); err != nil {
		return false, err
	}
	var marks []mark
	for _, w := range s.writers() {
		m, err := w.mark(ctx)
		if err != nil {
			return false, err
		}
		marks = append(marks, m)
		again = again || m.after != nil
	}
	if err := s.sync(marks); err != nil {
		return false, err
	}
	if err := each(marks, mark.store); err != nil {
		return false, err
	}
	for _, m := range marks {
		if m.seg != nil {
			m.seg.safe = m.length
		}
		if err := m.settle(ctx); err != nil {
			return false, err
		}
	}
	return again, nil
}

func each(marks []mark, do func(mark) error) error {
	if len(marks) == 1 {
		return do(marks[0])
	}
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	for _, m := range marks {
		g.Go(func() error { return do(m) })
	}
	return g.Wait()
}

// mark says how far the writer has come, after a look at whether the path still
// names the file that is written, and whether the clock ends that.
func (w *writer) mark(ctx context.Context) (mark, error) {
	m := mark{w: w}
	if err := w.turn.take(ctx); err != nil {
		return m, fmt.Errorf("flush %s: %w", w.path, err)
	}
	defer w.turn.give()
	if w.full == nil {
		if err := w.inspect(); err != nil {
			return m, err
		}
		if err := w.finish(); err != nil {
			return m, err
		}
	}
	m.folders, m.seg = w.folders, w.current
	switch {
	case w.full != nil:
		m.seg, m.after, m.state, m.last = w.full, w.current, w.full.at, true
	case w.version != w.stored:
		m.state = w.now()
	default:
		m.version = w.stored
	}
	if m.seg != nil {
		m.f, m.length = m.seg.f, m.seg.length
		if m.after == nil {
			m.seg.reserve()
		}
	}
	return m, nil
}

// finish brings what waits into the file, and ends the file if that is due.
func (w *writer) finish() error {
	g := w.current
	if g == nil || g.torn && len(w.pending) == 0 { // what was accepted is whole; the next Write tells
		return nil
	}
	if g.torn {
		if err := w.repair(g); err != nil {
			return err
		}
	}
	if w.due(time.Now(), 0) {
		return w.rotate()
	}
	return w.emit()
}

// sync makes everything up to the marks safe, with the names of new files and of
// new folders above them. The kernel may have dropped what it could not write
// and would call the next sync on the same descriptor good, so there is none.
func (s *fileSink) sync(marks []mark) error {
	if s.spec.Load().Durability == None {
		return nil
	}
	err := each(marks, func(m mark) error {
		// A cut that is not synced may come undone, so the last one always is.
		if m.seg == nil || m.seg.synced == m.length && !m.last {
			return nil
		}
		if err := m.f.Datasync(); err != nil {
			return fmt.Errorf("%w: %w", fault("sync", m.seg.path, err), ErrLost)
		}
		m.seg.synced = m.length
		return nil
	})
	if err != nil {
		s.lost.Store(&err)
		return err
	}
	return s.syncFolders(marks)
}

// syncFolders opens the folders anew each time, so it may be tried again.
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
		m.w.folders = nil
	}
	return nil
}

// store makes the account up to the mark durable, if there is one to keep.
func (m mark) store() error {
	w := m.w
	if w.sink.exact && m.version != w.stored {
		c := &checkpoint{Topics: m.topics, Done: w.done}
		var err error
		if c.File, err = markOf(m.seg, m.f, m.length); err != nil {
			return err
		}
		if m.after != nil {
			c.Done, c.File = c.File, &fileMark{Name: filepath.Base(w.path), Inode: inode(m.after.id), Born: m.after.born, Compression: m.after.codec}
			c.Done.Name = filepath.Base(m.seg.final)
		}
		if err := w.store(c); err != nil {
			return err
		}
		w.done = nil
		if m.after != nil {
			w.done = c.Done // until the renames, which are to come, are safe
		}
	}
	w.stored = m.version
	return nil
}

// store makes c the writer's durable checkpoint.
func (w *writer) store(c *checkpoint) error {
	s := w.sink
	c.ID, c.Group = w.owner, s.group
	if err := c.store(s.fs, w.path, s.mode(), s.spec.Load().Durability != None); err != nil {
		return err
	}
	w.last = c
	return nil
}

// markOf describes a file up to a length.
func markOf(g *segment, f File, length int64) (*fileMark, error) {
	if g == nil {
		return nil, nil
	}
	tail, err := tailOf(f, length)
	if err != nil {
		return nil, fault("read", g.path, err)
	}
	return &fileMark{filepath.Base(g.path), inode(g.id), g.born, length, tail, g.codec}, nil
}

// settle ends the flush of one writer.
func (m mark) settle(ctx context.Context) error {
	w := m.w
	now := time.Now()
	if m.after == nil && (w.pruneAt.IsZero() || now.Before(w.pruneAt)) {
		return nil
	}
	if err := w.turn.take(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", w.path, err)
	}
	defer w.turn.give()
	if m.after != nil {
		m.after.named = true
		return w.settle()
	}
	w.prune(now)
	return nil
}

// alone runs do with all turns that there are.
func (s *fileSink) alone(ctx context.Context, w *writer, do func() error) error {
	if err := s.flushing.take(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.path, err)
	}
	defer s.flushing.give()
	if err := w.turn.take(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.path, err)
	}
	defer w.turn.give()
	return do()
}

// dirty reports that something was written since the last Flush. Thousands of
// idle consumers that end at one moment would otherwise all sync for nothing.
func (s *fileSink) dirty() bool {
	return slices.ContainsFunc(s.writers(), func(w *writer) bool { return !w.idle() })
}
