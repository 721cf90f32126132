package writer

import (
	"context"
	"errors"
	"path/filepath"

	"kcagent/sink/file/checkpoint"
	"kcagent/sink/sinkio"
)

// CompleteLast completes a file that receives no more records.
func (w *Writer) CompleteLast() error {
	return w.withLocks(context.Background(), w.completeLastLocked)
}

func (w *Writer) completeLastLocked() error {
	if w.lost != nil {
		return nil
	}
	if w.parked != nil && w.parked.current != nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if g := w.current; w.store == nil || g == nil || g.uncovered > 0 || g.length == 0 && len(w.buffer) == 0 {
		return nil
	}
	if err := w.complete(); err != nil || !w.env.durable() {
		return err
	}
	return w.syncFolderNames(w.unsyncedFolders)
}

// closeLocked closes the writer. Under at_least_once, it truncates what is not flushed after
// a loss; under exactly_once, the next start does so. The caller holds both mutexes.
func (w *Writer) closeLocked() error {
	err := w.closeFiles(w.lost != nil && !w.env.ExactlyOnce)
	w.ledger, w.lastCheckpoint, w.completeFile, w.parked, w.unsyncedFolders, w.movedFile = checkpoint.NewLedger(), nil, nil, nil, nil, nil
	return err
}

// closeFiles closes what is open. If truncate is set, it first truncates what is not flushed.
func (w *Writer) closeFiles(truncate bool) error {
	var err error
	if g := w.current; g != nil {
		if truncate {
			err = w.truncateToFlushed(g)
		}
		err = errors.Join(err, g.trim())
		if e := g.f.Close(); e != nil {
			err = errors.Join(err, sinkio.OpError("close", g.path, e))
		}
	}
	if w.rescueSegment != nil {
		err = errors.Join(err, w.rescueSegment.f.Close())
	}
	if w.store != nil {
		err = errors.Join(err, w.store.Close())
	}
	w.current, w.rescueSegment, w.store = nil, nil, nil
	w.dropBuffer()
	w.env.pool.release(w)
	return err
}

// truncateToFlushed truncates what no successful flush has covered. If the path still names
// the file, it uses a new descriptor: a sync on the old one would prove nothing, and the
// truncation has to be durable.
func (w *Writer) truncateToFlushed(g *segment) error {
	f := w.reopenSegment(g)
	other := f != nil
	if !other {
		f = g.f
	}
	info, err := f.Stat()
	if err == nil && info.Size() > g.flushed {
		err = f.Truncate(g.flushed)
		if err == nil && other {
			err = f.Datasync()
		}
	}
	if other {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return sinkio.OpError("truncate the unflushed end of", g.path, err)
	}
	return nil
}

// CloseUnused ends the assignment of all partitions of the writer and closes it, unless used
// returns true. It calls forget before it unlocks the writer. Everything in the file was flushed.
func (w *Writer) CloseUnused(used func() bool, forget func()) error {
	return w.withLocks(context.Background(), func() error {
		if used() {
			return nil
		}
		defer forget()
		clear(w.resumedAt)
		return w.closeLocked()
	})
}

// CompleteUnassigned completes the growing file of a path that no assigned partition uses,
// if it belongs to this consumer. It does nothing if a partition uses the file, or if listed
// returns false: then one has just used it. If forget is not nil, CompleteUnassigned closes
// the writer, and calls forget before it unlocks the writer.
func (w *Writer) CompleteUnassigned(listed func() bool, forget func()) error {
	return w.withLocks(context.Background(), func() error {
		if len(w.resumedAt) > 0 || !listed() {
			return nil
		}
		err := w.open()
		if err == nil && w.current != nil && w.lastCheckpoint != nil && w.lastCheckpoint.Consumer == w.env.consumer && w.lastCheckpoint.Group == w.env.group {
			if w.current.length > 0 {
				err = w.complete()
			}
			if err == nil && w.env.durable() {
				err = w.env.fs.SyncDir(filepath.Dir(w.Path))
			}
		}
		if forget == nil {
			return err
		}
		defer forget()
		return errors.Join(err, w.closeLocked())
	})
}
