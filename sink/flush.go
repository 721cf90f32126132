package sink

import (
	"context"
	"fmt"
)

// A flushMark is how far a flush covers one writer.
type flushMark struct {
	seg     *segment // nil if there is no file
	f       File     // the segment's at that time; a repair may change it
	length  int64
	cuts    int64
	at      snapshot
	folders []string // to be synced
}

// flush makes safe what the writer has accepted.
func (w *writer) flush(ctx context.Context) error {
	if err := w.flushing.take(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", w.path, err)
	}
	defer w.flushing.give()
	m, err := w.mark(ctx)
	if err != nil || m == nil {
		return err
	}
	if err := w.sync(m); err != nil {
		return err
	}
	if w.env.exact && m.at.version != w.ledger.stored {
		if err := w.storeUpTo(m.seg, m.f, m.length, m.at); err != nil {
			return err
		}
	}
	w.ledger.stored = m.at.version
	if m.seg != nil {
		m.seg.safe = m.length
	}
	return nil
}

// mark returns how far the writer has come, after a look at whether the path still
// names the file that is written, and whether that is to be completed; nil if there
// is nothing to flush.
func (w *writer) mark(ctx context.Context) (*flushMark, error) {
	if err := w.turn.take(ctx); err != nil {
		return nil, fmt.Errorf("flush %s: %w", w.path, err)
	}
	defer w.turn.give()
	if w.lost != nil {
		return nil, w.lost
	}
	if w.side == nil {
		if w.ledger.version == w.ledger.stored && !w.due(w.env.now()) {
			return nil, nil // nothing was accepted since it was closed
		}
		if err := w.open(); err != nil {
			return nil, err
		}
	}
	if g := w.current; g != nil && g.uncovered > 0 {
		return nil, nil // no partition has resumed, so nothing was accepted
	}
	if err := w.inspect(); err != nil {
		return nil, err
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	if w.idle() && len(w.folders) == 0 {
		return nil, nil
	}
	m := &flushMark{seg: w.current, folders: w.folders}
	m.at.version = w.ledger.version
	if w.ledger.version != w.ledger.stored {
		m.at = w.ledger.snapshot()
	}
	if m.seg != nil {
		m.f, m.length, m.cuts = m.seg.f, m.seg.length, m.seg.cuts
		m.seg.reserve()
	}
	return m, nil
}

// finish writes the pending records to the file, and completes the file if that is due.
func (w *writer) finish() error {
	g := w.current
	if g == nil || g.torn && len(w.pending) == 0 { // what was accepted is whole; the next Write reports
		return nil
	}
	if g.torn {
		if err := w.repair(g); err != nil {
			return err
		}
	}
	if w.due(w.env.now()) {
		return w.complete()
	}
	return w.emit()
}

// sync makes everything up to the mark safe, with the names of new files and of new
// folders above them. The kernel may have dropped what it could not write and would
// call the next sync on the same descriptor good, so there is none.
func (w *writer) sync(m *flushMark) error {
	if !w.env.durable() {
		w.done = nil // the process alone may crash, and it has renamed it
		return nil
	}
	if m.seg != nil && (m.seg.synced != m.length || m.seg.covers != m.cuts) {
		if err := m.f.Datasync(); err != nil {
			return w.loseUnsynced(fault("sync", m.seg.path, err))
		}
		m.seg.synced, m.seg.covers = m.length, m.cuts
	}
	return w.syncFolders(m.folders)
}

// loseUnsynced is lose, called without the turn.
func (w *writer) loseUnsynced(err error) error {
	_ = w.turn.take(context.Background()) // which never ends
	defer w.turn.give()
	return w.lose(err)
}

// syncFolders makes the names in folders durable, and forgets them. It may be tried
// again.
func (w *writer) syncFolders(folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	if err := w.syncNames(folders); err != nil {
		return err
	}
	_ = w.turn.take(context.Background())
	defer w.turn.give()
	if w.folders = w.folders[len(folders):]; len(w.folders) == 0 {
		w.folders = nil
	}
	return nil
}

func (w *writer) syncNames(folders []string) error {
	synced := make(map[string]bool, len(folders))
	for _, dir := range folders {
		if synced[dir] {
			continue
		}
		if err := w.env.fs.SyncDir(dir); err != nil {
			return fault("sync folder", dir, err)
		}
		synced[dir] = true
	}
	w.done = nil // its name is durable
	return nil
}

// failures are the partitions that the error of a flush concerns: all of the writer,
// and without an error those that have to resume first. serves is false if it has no
// partition at all.
func (w *writer) failures(err error) (failed map[TopicPartition]error, serves bool) {
	_ = w.turn.take(context.Background())
	defer w.turn.give()
	failed = make(map[TopicPartition]error)
	for tp := range w.seen {
		if e := w.usable(tp); e != nil {
			failed[tp] = e
		} else if err != nil {
			failed[tp] = err
		}
	}
	return failed, len(w.seen) > 0
}
