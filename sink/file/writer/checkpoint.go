package writer

import (
	"errors"
	"path/filepath"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// openStore opens and locks the checkpoint file, and returns the newest checkpoint in it;
// nil if there is none.
func (w *Writer) openStore() (*checkpoint.Checkpoint, error) {
	at := w.realPath + filename.CheckpointSuffix
	side, err := w.openStoreFile(at)
	if err != nil {
		return nil, err
	}
	w.store = side
	body, err := w.store.Load()
	if errors.Is(err, checkpoint.ErrDamaged) {
		return nil, w.damagedCheckpoint(err)
	}
	if err != nil {
		return nil, sinkio.OpError("read", at, err)
	}
	if body == nil {
		return nil, nil
	}
	c, err := checkpoint.Decode(body)
	if err != nil {
		return nil, w.damagedCheckpoint(err)
	}
	if w.env.durable() {
		if err := w.store.Rewrite(body); err != nil {
			return nil, sinkio.OpError("write", at, err)
		}
		dir := filepath.Dir(at)
		if err := w.env.fs.SyncDir(dir); err != nil {
			return nil, sinkio.OpError("sync folder", dir, err)
		}
	}
	return c, nil
}

// damagedCheckpoint returns the error of a checkpoint that cannot be read. It returns nil if
// durability none can be the cause: then the file is continued without the checkpoint.
func (w *Writer) damagedCheckpoint(err error) error {
	if w.env.durable() {
		return checkpoint.DamagedError(w.realPath, err)
	}
	w.env.Log.Warn("checkpoint is damaged; continuing at the committed offsets", logkey.Path, w.Path, logkey.Durability, string(sink.None), logkey.Error, err)
	return nil
}

// checkStore detects that the checkpoint file was removed or replaced, and creates it again:
// the ledger in memory is newer than any other. A checkpoint that cannot be read, such as one
// in another format, stays as it is: the next call reads it again.
func (w *Writer) checkStore() error {
	at := w.realPath + filename.CheckpointSuffix
	if named, err := w.store.HasName(w.env.fs, at); err != nil || named {
		return err
	}
	if err := w.makeFolders(w.env.mode()); err != nil {
		return err
	}
	side, err := w.openStoreFile(at)
	if err != nil {
		return err
	}
	if _, err := side.Load(); err != nil && !errors.Is(err, checkpoint.ErrDamaged) {
		return errors.Join(sinkio.OpError("read", at, err), side.Close())
	}
	w.env.Log.Warn("checkpoint was removed or replaced while it was in use; writing it again", logkey.Path, w.Path)
	_ = w.store.Close()
	w.store = side
	w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(at))
	w.ledger.Version++ // the flush stores the newer ledger
	if w.lastCheckpoint == nil {
		return nil
	}
	return w.writeCheckpoint(w.lastCheckpoint)
}

// saveCheckpoint stores a checkpoint of the growing file and of a ledger.
func (w *Writer) saveCheckpoint(g *segment, at checkpoint.Snapshot) error {
	return w.saveCheckpointUpTo(g, g.f, g.length, at)
}

// saveCheckpointUpTo stores a checkpoint of the growing file up to a length, and of a
// ledger. g is nil if there is no growing file.
func (w *Writer) saveCheckpointUpTo(g *segment, f disk.File, length int64, at checkpoint.Snapshot) error {
	if g == nil {
		return w.saveCheckpointOf(nil, at)
	}
	m, err := stateOf(g, f, length)
	if err != nil {
		return err
	}
	return w.saveCheckpointOf(m, at)
}

// saveCheckpointOf is saveCheckpointUpTo for the state of a file; nil is no file.
func (w *Writer) saveCheckpointOf(m *checkpoint.FileState, at checkpoint.Snapshot) error {
	s := w.env
	c := &checkpoint.Checkpoint{
		Ledger: at.ID, Consumer: s.consumer, Group: s.group, Delivery: sink.ExactlyOnce,
		Unsynced: !s.durable(), File: m, Done: w.completeFile, Completed: w.lastFinalTime, Topics: at.Topics,
	}
	if !s.ExactlyOnce {
		c.Delivery, c.Done, c.Topics = sink.AtLeastOnce, nil, nil
	}
	if err := w.writeCheckpoint(c); err != nil {
		return err
	}
	w.lastCheckpoint, w.ledger.StoredVersion = c, at.Version
	return nil
}

// writeCheckpoint writes a checkpoint to the checkpoint file.
func (w *Writer) writeCheckpoint(c *checkpoint.Checkpoint) error {
	if err := w.store.Save(c, w.env.durable()); err != nil {
		return sinkio.OpError("write", w.realPath+filename.CheckpointSuffix, err)
	}
	return nil
}

// openStoreFile opens and locks a checkpoint file.
func (w *Writer) openStoreFile(at string) (*checkpoint.Store, error) {
	return checkpoint.OpenStore(w.env.fs, at, w.env.mode(), func(f disk.File) error { return w.env.lockFile(f, w.Path) })
}
