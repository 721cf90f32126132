package writer

import (
	"context"
	"fmt"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A flushPoint is how far a flush covers one writer.
type flushPoint struct {
	seg         *segment  // nil if there is no file
	f           disk.File // the segment's at that time; a repair may change it
	length      int64
	truncations int64
	ledger      checkpoint.Snapshot
	folders     []string // to be synced
}

// Flush makes safe what the writer has accepted.
func (w *Writer) Flush(ctx context.Context) error {
	if err := w.flushMu.Lock(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", w.Path, err)
	}
	defer w.flushMu.Unlock()
	m, err := w.startFlush(ctx)
	if err != nil || m == nil {
		return err
	}
	if err := w.sync(m); err != nil {
		return err
	}
	if w.env.ExactlyOnce && m.ledger.Version != w.ledger.StoredVersion {
		if err := w.saveCheckpointUpTo(m.seg, m.f, m.length, m.ledger); err != nil {
			return err
		}
	}
	w.ledger.StoredVersion = m.ledger.Version
	if m.seg != nil {
		m.seg.flushed = m.length
	}
	return nil
}

// startFlush returns how far the writer has come, after a look at whether the path still
// names the file that is written, and whether that is to be completed; nil if there
// is nothing to flush.
func (w *Writer) startFlush(ctx context.Context) (*flushPoint, error) {
	if err := w.mu.Lock(ctx); err != nil {
		return nil, fmt.Errorf("flush %s: %w", w.Path, err)
	}
	defer w.mu.Unlock()
	if w.lost != nil {
		return nil, w.lost
	}
	if w.store == nil {
		if w.ledger.Version == w.ledger.StoredVersion && !w.completionDue(w.env.now()) {
			return nil, nil // nothing was accepted since it was closed
		}
		if err := w.open(); err != nil {
			return nil, err
		}
	}
	if g := w.current; g != nil && g.uncovered > 0 {
		return nil, nil // no partition has resumed, so nothing was accepted
	}
	if err := w.detectChanges(); err != nil {
		return nil, err
	}
	if err := w.finishBuffer(); err != nil {
		return nil, err
	}
	if w.isFlushed() && len(w.unsyncedFolders) == 0 {
		return nil, nil
	}
	m := &flushPoint{seg: w.current, folders: w.unsyncedFolders}
	m.ledger.Version = w.ledger.Version
	if w.ledger.Version != w.ledger.StoredVersion {
		m.ledger = w.ledger.Snapshot()
	}
	if m.seg != nil {
		m.f, m.length, m.truncations = m.seg.f, m.seg.length, m.seg.truncations
		m.seg.reserve()
	}
	return m, nil
}

// finishBuffer writes the pending records to the file, and completes the file if that is due.
func (w *Writer) finishBuffer() error {
	g := w.current
	if g == nil || g.tornTail && len(w.buffer) == 0 { // what was accepted is whole; the next Write reports
		return nil
	}
	if g.tornTail {
		if err := w.repairTail(g); err != nil {
			return err
		}
	}
	if w.completionDue(w.env.now()) {
		return w.complete()
	}
	return w.writeBuffer()
}

// sync makes everything up to the mark safe, with the names of new files and of new
// folders above them. The kernel may have dropped what it could not write and would
// call the next sync on the same descriptor good, so there is none.
func (w *Writer) sync(m *flushPoint) error {
	if !w.env.durable() {
		w.completeFile = nil // the process alone may crash, and it has renamed it
		return nil
	}
	if m.seg != nil && (m.seg.synced != m.length || m.seg.syncedTruncations != m.truncations) {
		if err := m.f.Datasync(); err != nil {
			return w.markSyncLost(sinkio.OpError("sync", m.seg.path, err))
		}
		m.seg.synced, m.seg.syncedTruncations = m.length, m.truncations
	}
	return w.syncFolders(m.folders)
}

// markSyncLost is lose, called without the turn.
func (w *Writer) markSyncLost(err error) error {
	_ = w.mu.Lock(context.Background()) // which never ends
	defer w.mu.Unlock()
	return w.markLost(err)
}

// syncFolders makes the names in folders durable, and forgets them. It may be tried
// again.
func (w *Writer) syncFolders(folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	if err := w.syncFolderNames(folders); err != nil {
		return err
	}
	_ = w.mu.Lock(context.Background())
	defer w.mu.Unlock()
	if w.unsyncedFolders = w.unsyncedFolders[len(folders):]; len(w.unsyncedFolders) == 0 {
		w.unsyncedFolders = nil
	}
	return nil
}

func (w *Writer) syncFolderNames(folders []string) error {
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
	w.completeFile = nil // its name is durable
	return nil
}

// Failures are the partitions that the error of a flush concerns: all of the writer,
// and without an error those that have to resume first. serves is false if it has no
// partition at all.
func (w *Writer) Failures(err error) (failed map[sink.TopicPartition]error, serves bool) {
	_ = w.mu.Lock(context.Background())
	defer w.mu.Unlock()
	failed = make(map[sink.TopicPartition]error)
	for tp := range w.resumedAt {
		if e := w.checkResumed(tp); e != nil {
			failed[tp] = e
		} else if err != nil {
			failed[tp] = err
		}
	}
	return failed, len(w.resumedAt) > 0
}
