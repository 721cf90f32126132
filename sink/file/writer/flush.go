package writer

import (
	"context"
	"fmt"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A flushMark is how far a flush covers one writer.
type flushMark struct {
	seg     *segment  // nil if there is no file
	f       disk.File // the segment's at that time; a repair may change it
	length  int64
	cuts    int64
	at      checkpoint.Snapshot
	folders []string // to be synced
}

// Flush makes safe what the writer has accepted.
func (w *Writer) Flush(ctx context.Context) error {
	if err := w.flushing.Lock(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", w.Path, err)
	}
	defer w.flushing.Unlock()
	m, err := w.mark(ctx)
	if err != nil || m == nil {
		return err
	}
	if err := w.sync(m); err != nil {
		return err
	}
	if w.env.Exact && m.at.Version != w.ledger.Stored {
		if err := w.storeUpTo(m.seg, m.f, m.length, m.at); err != nil {
			return err
		}
	}
	w.ledger.Stored = m.at.Version
	if m.seg != nil {
		m.seg.safe = m.length
	}
	return nil
}

// mark returns how far the writer has come, after a look at whether the path still
// names the file that is written, and whether that is to be completed; nil if there
// is nothing to flush.
func (w *Writer) mark(ctx context.Context) (*flushMark, error) {
	if err := w.turn.Lock(ctx); err != nil {
		return nil, fmt.Errorf("flush %s: %w", w.Path, err)
	}
	defer w.turn.Unlock()
	if w.lost != nil {
		return nil, w.lost
	}
	if w.side == nil {
		if w.ledger.Version == w.ledger.Stored && !w.due(w.env.now()) {
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
	m.at.Version = w.ledger.Version
	if w.ledger.Version != w.ledger.Stored {
		m.at = w.ledger.Snapshot()
	}
	if m.seg != nil {
		m.f, m.length, m.cuts = m.seg.f, m.seg.length, m.seg.cuts
		m.seg.reserve()
	}
	return m, nil
}

// finish writes the pending records to the file, and completes the file if that is due.
func (w *Writer) finish() error {
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
func (w *Writer) sync(m *flushMark) error {
	if !w.env.durable() {
		w.done = nil // the process alone may crash, and it has renamed it
		return nil
	}
	if m.seg != nil && (m.seg.synced != m.length || m.seg.covers != m.cuts) {
		if err := m.f.Datasync(); err != nil {
			return w.loseUnsynced(sinkio.OpError("sync", m.seg.path, err))
		}
		m.seg.synced, m.seg.covers = m.length, m.cuts
	}
	return w.syncFolders(m.folders)
}

// loseUnsynced is lose, called without the turn.
func (w *Writer) loseUnsynced(err error) error {
	_ = w.turn.Lock(context.Background()) // which never ends
	defer w.turn.Unlock()
	return w.lose(err)
}

// syncFolders makes the names in folders durable, and forgets them. It may be tried
// again.
func (w *Writer) syncFolders(folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	if err := w.syncNames(folders); err != nil {
		return err
	}
	_ = w.turn.Lock(context.Background())
	defer w.turn.Unlock()
	if w.folders = w.folders[len(folders):]; len(w.folders) == 0 {
		w.folders = nil
	}
	return nil
}

func (w *Writer) syncNames(folders []string) error {
	synced := make(map[string]bool, len(folders))
	for _, dir := range folders {
		if synced[dir] {
			continue
		}
		if err := w.env.fs.SyncDir(dir); err != nil {
			return sinkio.OpError("sync folder", dir, err)
		}
		synced[dir] = true
	}
	w.done = nil // its name is durable
	return nil
}

// Failures are the partitions that the error of a flush concerns: all of the writer,
// and without an error those that have to resume first. serves is false if it has no
// partition at all.
func (w *Writer) Failures(err error) (failed map[sink.TopicPartition]error, serves bool) {
	_ = w.turn.Lock(context.Background())
	defer w.turn.Unlock()
	failed = make(map[sink.TopicPartition]error)
	for tp := range w.seen {
		if e := w.usable(tp); e != nil {
			failed[tp] = e
		} else if err != nil {
			failed[tp] = err
		}
	}
	return failed, len(w.seen) > 0
}
