package writer

import (
	"context"
	"errors"
	"path/filepath"

	"kcagent/sink/file/checkpoint"
	"kcagent/sink/sinkio"
)

// CompleteLast completes a file that gets no more records.
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

// closeLocked closes the writer. It is called alone. Under at_least_once it cuts off what a loss made unsafe;
// under exactly_once the next opening does.
func (w *Writer) closeLocked() error {
	err := w.closeFiles(w.lost != nil && !w.env.ExactlyOnce)
	w.ledger, w.lastCheckpoint, w.completeFile, w.parked, w.unsyncedFolders, w.movedFile = checkpoint.NewLedger(), nil, nil, nil, nil, nil
	return err
}

// closeFiles closes what is open.
func (w *Writer) closeFiles(cut bool) error {
	var err error
	if g := w.current; g != nil {
		if cut {
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
	w.current, w.rescueSegment, w.store, w.buffer = nil, nil, nil, nil
	w.env.pool.release(w)
	return err
}

// truncateToFlushed takes off what no good flush has covered. It does so through a
// descriptor of its own if the path still names the file: a sync on the old one
// would mean nothing, and the cut itself is to last.
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
		return sinkio.OpError("cut the unsafe end of", g.path, err)
	}
	return nil
}

// CompleteUnassigned completes the growing file of a path of which no partition is
// assigned, if it is this consumer's. It does nothing if the file serves a partition, or
// if listed returns false: it served one a moment ago. If forget is not nil, the writer is
// closed then, and forget called before another may use it.
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
