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
	return w.alone(context.Background(), w.completeLastLocked)
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
	if g := w.current; w.side == nil || g == nil || g.uncovered > 0 || g.length == 0 && len(w.pending) == 0 {
		return nil
	}
	if err := w.complete(); err != nil || !w.env.durable() {
		return err
	}
	return w.syncNames(w.folders)
}

// closeLocked closes the writer. It is called alone. Under at_least_once it cuts off what a loss made unsafe;
// under exactly_once the next opening does.
func (w *Writer) closeLocked() error {
	err := w.closeFiles(w.lost != nil && !w.env.Exact)
	w.ledger, w.last, w.done, w.parked, w.folders, w.moved = checkpoint.NewLedger(), nil, nil, nil, nil, nil
	return err
}

// closeFiles closes what is open.
func (w *Writer) closeFiles(cut bool) error {
	var err error
	if g := w.current; g != nil {
		if cut {
			err = w.cutToSafe(g)
		}
		err = errors.Join(err, g.trim())
		if e := g.f.Close(); e != nil {
			err = errors.Join(err, sinkio.OpError("close", g.path, e))
		}
	}
	if w.rescued != nil {
		err = errors.Join(err, w.rescued.f.Close())
	}
	if w.side != nil {
		err = errors.Join(err, w.side.Close())
	}
	w.current, w.rescued, w.side, w.pending = nil, nil, nil, nil
	w.env.pool.give(w)
	return err
}

// cutToSafe takes off what no good flush has covered. It does so through a
// descriptor of its own if the path still names the file: a sync on the old one
// would mean nothing, and the cut itself is to last.
func (w *Writer) cutToSafe(g *segment) error {
	f := w.again(g)
	other := f != nil
	if !other {
		f = g.f
	}
	info, err := f.Stat()
	if err == nil && info.Size() > g.safe {
		err = f.Truncate(g.safe)
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
	return w.alone(context.Background(), func() error {
		if len(w.seen) > 0 || !listed() {
			return nil
		}
		err := w.open()
		if err == nil && w.current != nil && w.last != nil && w.last.Consumer == w.env.consumer && w.last.Group == w.env.group {
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
