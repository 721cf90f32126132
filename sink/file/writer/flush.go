package writer

import (
	"context"
	"fmt"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A flushPoint is what one flush of a writer covers.
type flushPoint struct {
	seg         *segment  // nil if there is no file
	f           disk.File // of the segment at that time; a repair may replace it
	length      int64
	truncations int64
	ledger      checkpoint.Snapshot
	folders     []string // to be synced
}

// Flush makes durable what the writer has accepted, and then stores a checkpoint.
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

// startFlush detects changes by other programs, completes the file if that is due, and
// returns what the flush covers; nil if there is nothing to flush.
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
			return nil, nil // nothing was accepted since it was parked
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

// finishBuffer writes the buffer to the file, and completes the file if that is due.
func (w *Writer) finishBuffer() error {
	g := w.current
	if g == nil || g.tornTail && len(w.buffer) == 0 { // what was accepted is whole; the next Write returns the error
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

// sync makes everything up to the flush point durable, with the names of new files and
// folders. It does not retry: the kernel may have dropped dirty pages after an error, and a
// second sync on the same descriptor would succeed.
func (w *Writer) sync(m *flushPoint) error {
	if !w.env.durable() {
		w.completeFile = nil // only the process may crash, and the file is renamed
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

// markSyncLost is markLost for a caller that does not hold mu.
func (w *Writer) markSyncLost(err error) error {
	_ = w.mu.Lock(context.Background()) // a background context does not end
	defer w.mu.Unlock()
	return w.markLost(err)
}

// syncFolders makes the names in the folders durable, and removes the folders from the list.
// It may be tried again after an error.
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

// syncFolderNames makes the names in the folders durable.
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
	w.completeFile = nil // the name of the file is durable
	return nil
}

// Failures returns the partitions that the error of a flush concerns: all partitions of the
// writer, or, without an error, those that have to resume first. serves is false if the
// writer has no partition.
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
