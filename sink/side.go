package sink

import (
	"errors"
	"path/filepath"
)

// openSide opens and locks the side file, and returns the newest checkpoint in it;
// nil if there is none.
func (w *writer) openSide() (*checkpoint, error) {
	at := w.real + checkpointSuffix
	side, err := w.openSideFile(at)
	if err != nil {
		return nil, err
	}
	w.side = side
	body, err := w.side.load()
	if errors.Is(err, errDamaged) {
		return nil, w.damaged(err)
	}
	if err != nil {
		return nil, fault("read", at, err)
	}
	if body == nil {
		return nil, nil
	}
	c, err := decodeCheckpoint(body)
	if err != nil {
		return nil, w.damaged(err)
	}
	if w.env.durable() {
		if err := w.side.renew(body); err != nil {
			return nil, fault("write", at, err)
		}
		dir := filepath.Dir(at)
		if err := w.env.fs.SyncDir(dir); err != nil {
			return nil, fault("sync folder", dir, err)
		}
	}
	return c, nil
}

// damaged is the error of a checkpoint that cannot be read, or nil if durability
// none explains it: then the file continues without what it said.
func (w *writer) damaged(err error) error {
	if w.env.durable() {
		return badCheckpoint(w.real, err)
	}
	w.env.log.Warn("checkpoint is damaged; continuing at the committed offsets", "path", w.path, "durability", string(None), "error", err)
	return nil
}

// checkSide notices that the side file was removed or replaced, and makes it again:
// the ledger in memory is newer than any other.
func (w *writer) checkSide() error {
	at := w.real + checkpointSuffix
	if named, err := w.side.named(w.env.fs, at); err != nil || named {
		return err
	}
	if err := w.makeFolders(w.env.mode()); err != nil {
		return err
	}
	side, err := w.openSideFile(at)
	if err != nil {
		return err
	}
	w.env.log.Warn("checkpoint was removed or replaced while it was in use; writing it again", "path", w.path)
	_ = w.side.close()
	w.side = side
	if _, err := w.side.load(); err != nil && !errors.Is(err, errDamaged) {
		return fault("read", at, err)
	}
	w.folders = append(w.folders, filepath.Dir(at))
	w.ledger.version++ // what is newer follows with the flush
	if w.last == nil {
		return nil
	}
	return w.save(w.last)
}

// store makes a checkpoint of the growing file and of the ledger of that moment.
func (w *writer) store(g *segment, at snapshot) error { return w.storeUpTo(g, g.f, g.length, at) }

// storeUpTo makes a checkpoint of the growing file, as it was at a length, and of the
// ledger of that moment. Without a file, g is nil.
func (w *writer) storeUpTo(g *segment, f File, length int64, at snapshot) error {
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
func (w *writer) storeMark(m *fileMark, at snapshot) error {
	s := w.env
	c := &checkpoint{
		Ledger: at.id, Consumer: s.consumer, Group: s.group, Delivery: ExactlyOnce,
		Unsynced: !s.durable(), File: m, Done: w.done, Completed: w.completed, Topics: at.topics,
	}
	if !s.exact {
		c.Delivery, c.Done, c.Topics = AtLeastOnce, nil, nil
	}
	if err := w.save(c); err != nil {
		return err
	}
	w.last, w.ledger.stored = c, at.version
	return nil
}

// save writes a checkpoint.
func (w *writer) save(c *checkpoint) error {
	if err := w.side.save(c, w.env.durable()); err != nil {
		return fault("write", w.real+checkpointSuffix, err)
	}
	return nil
}

// openSideFile opens and locks a side file.
func (w *writer) openSideFile(at string) (*sideFile, error) {
	return openSideFile(w.env.fs, at, w.env.mode(), func(f File) error { return w.env.lock(f, w.path) })
}
