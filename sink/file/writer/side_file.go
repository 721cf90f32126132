package writer

import (
	"errors"
	"path/filepath"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// openSide opens and locks the side file, and returns the newest checkpoint in it;
// nil if there is none.
func (w *Writer) openSide() (*checkpoint.Checkpoint, error) {
	at := w.real + filename.CheckpointSuffix
	side, err := w.openSideFile(at)
	if err != nil {
		return nil, err
	}
	w.side = side
	body, err := w.side.Load()
	if errors.Is(err, checkpoint.ErrDamaged) {
		return nil, w.damaged(err)
	}
	if err != nil {
		return nil, sinkio.OpError("read", at, err)
	}
	if body == nil {
		return nil, nil
	}
	c, err := checkpoint.Decode(body)
	if err != nil {
		return nil, w.damaged(err)
	}
	if w.env.durable() {
		if err := w.side.Renew(body); err != nil {
			return nil, sinkio.OpError("write", at, err)
		}
		dir := filepath.Dir(at)
		if err := w.env.fs.SyncDir(dir); err != nil {
			return nil, sinkio.OpError("sync folder", dir, err)
		}
	}
	return c, nil
}

// damaged is the error of a checkpoint that cannot be read, or nil if durability
// none explains it: then the file continues without what it said.
func (w *Writer) damaged(err error) error {
	if w.env.durable() {
		return checkpoint.DamagedError(w.real, err)
	}
	w.env.Log.Warn("checkpoint is damaged; continuing at the committed offsets", "path", w.Path, "durability", string(sink.None), "error", err)
	return nil
}

// checkSide notices that the side file was removed or replaced, and makes it again:
// the ledger in memory is newer than any other.
func (w *Writer) checkSide() error {
	at := w.real + filename.CheckpointSuffix
	if named, err := w.side.Named(w.env.fs, at); err != nil || named {
		return err
	}
	if err := w.makeFolders(w.env.mode()); err != nil {
		return err
	}
	side, err := w.openSideFile(at)
	if err != nil {
		return err
	}
	w.env.Log.Warn("checkpoint was removed or replaced while it was in use; writing it again", "path", w.Path)
	_ = w.side.Close()
	w.side = side
	if _, err := w.side.Load(); err != nil && !errors.Is(err, checkpoint.ErrDamaged) {
		return sinkio.OpError("read", at, err)
	}
	w.folders = append(w.folders, filepath.Dir(at))
	w.ledger.Version++ // what is newer follows with the flush
	if w.last == nil {
		return nil
	}
	return w.save(w.last)
}

// store makes a checkpoint of the growing file and of the ledger of that moment.
func (w *Writer) store(g *segment, at checkpoint.Snapshot) error {
	return w.storeUpTo(g, g.f, g.length, at)
}

// storeUpTo makes a checkpoint of the growing file, as it was at a length, and of the
// ledger of that moment. Without a file, g is nil.
func (w *Writer) storeUpTo(g *segment, f disk.File, length int64, at checkpoint.Snapshot) error {
	if g == nil {
		return w.storeMark(nil, at)
	}
	m, err := markOf(g, f, length)
	if err != nil {
		return err
	}
	return w.storeMark(m, at)
}

// storeMark is storeUpTo for a file that is already described; nil is none.
func (w *Writer) storeMark(m *checkpoint.FileMark, at checkpoint.Snapshot) error {
	s := w.env
	c := &checkpoint.Checkpoint{
		Ledger: at.ID, Consumer: s.consumer, Group: s.group, Delivery: sink.ExactlyOnce,
		Unsynced: !s.durable(), File: m, Done: w.done, Completed: w.completed, Topics: at.Topics,
	}
	if !s.Exact {
		c.Delivery, c.Done, c.Topics = sink.AtLeastOnce, nil, nil
	}
	if err := w.save(c); err != nil {
		return err
	}
	w.last, w.ledger.Stored = c, at.Version
	return nil
}

// save writes a checkpoint.
func (w *Writer) save(c *checkpoint.Checkpoint) error {
	if err := w.side.Save(c, w.env.durable()); err != nil {
		return sinkio.OpError("write", w.real+filename.CheckpointSuffix, err)
	}
	return nil
}

// openSideFile opens and locks a side file.
func (w *Writer) openSideFile(at string) (*checkpoint.SideFile, error) {
	return checkpoint.OpenSideFile(w.env.fs, at, w.env.mode(), func(f disk.File) error { return w.env.lock(f, w.Path) })
}
