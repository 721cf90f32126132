package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A sideFile is <path>+checkpoint, open and locked: it holds the durable ledger, and
// its lock keeps every other writer from the path.
type sideFile struct {
	File
	slots
}

// openSide opens and locks the side file, and returns the newest checkpoint in it;
// nil if there is none.
func (w *writer) openSide() (*checkpoint, error) {
	at := w.real + checkpointSuffix
	f, err := w.lockSide(at)
	if err != nil {
		return nil, err
	}
	w.side = &sideFile{File: f, slots: slots{f: f, used: -1}}
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
	if w.sink.durable() {
		if err := w.side.renew(body); err != nil {
			return nil, fault("write", at, err)
		}
		dir := filepath.Dir(at)
		if err := w.sink.fs.SyncDir(dir); err != nil {
			return nil, fault("sync folder", dir, err)
		}
	}
	return c, nil
}

// damaged is the error of a checkpoint that cannot be read, or nil if durability
// none explains it: then the file continues without what it said.
func (w *writer) damaged(err error) error {
	if w.sink.durable() {
		return badCheckpoint(w.real, err)
	}
	w.sink.log.Warn("checkpoint is damaged; continuing at the committed offsets", "path", w.path, "durability", string(None), "error", err)
	return nil
}

// lockSide opens the side file and locks it. If it was removed between the two,
// that is repeated: a lock on a file without a name excludes no other writer.
func (w *writer) lockSide(at string) (File, error) {
	for range 10 {
		f, err := w.sink.fs.OpenFile(at, os.O_RDWR|os.O_CREATE, w.sink.mode())
		if err != nil {
			return nil, fault("open", at, err)
		}
		if err := w.sink.lock(f, w.path); err != nil {
			_ = f.Close()
			return nil, err
		}
		held, err1 := f.Stat()
		named, err2 := w.sink.fs.Stat(at)
		switch {
		case err1 == nil && err2 == nil && sameFile(held, named):
			return f, nil
		case err1 != nil || err2 != nil && !isNotExist(err2):
			_ = f.Close()
			return nil, fault("stat", at, errors.Join(err1, err2))
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("lock %s: it is removed again and again", at)
}

// lock locks a file of a path. at_least_once does without where the file system has
// no locks.
func (s *fileSink) lock(f File, path string) error {
	err := f.Lock()
	if !errors.Is(err, errors.ErrUnsupported) {
		if err != nil {
			return fault("lock", path, err)
		}
		return nil
	}
	if s.exact {
		return fmt.Errorf("%w; exactly_once requires locks: use another file system or delivery: at_least_once", fault("lock", path, err))
	}
	s.lockless.Do(func() {
		s.log.Warn("file system has no locks; make sure that no other agent writes the file", "path", path, "error", err)
	})
	return nil
}

// checkSide notices that the side file was removed or replaced, and makes it again:
// the ledger in memory is newer than any other.
func (w *writer) checkSide() error {
	at := w.real + checkpointSuffix
	held, err := w.side.Stat()
	if err != nil {
		return fault("stat", at, err)
	}
	named, err := w.sink.fs.Stat(at)
	switch {
	case err == nil && sameFile(held, named):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fault("stat", at, err)
	}
	if err := w.makeFolders(w.sink.mode()); err != nil {
		return err
	}
	f, err := w.lockSide(at)
	if err != nil {
		return err
	}
	w.sink.log.Warn("checkpoint was removed or replaced while it was in use; writing it again", "path", w.path)
	_ = w.side.Close()
	w.side = &sideFile{File: f, slots: slots{f: f, used: -1}}
	if _, err := w.side.load(); err != nil && !errors.Is(err, errDamaged) {
		return fault("read", at, err)
	}
	w.folders = append(w.folders, filepath.Dir(at))
	w.version++ // what is newer follows with the flush
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
	s := w.sink
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
	w.last, w.stored = c, at.version
	return nil
}

// save writes a checkpoint.
func (w *writer) save(c *checkpoint) error {
	body, err := c.encode()
	if err == nil {
		err = w.side.store(body, w.sink.durable())
	}
	if err != nil {
		return fault("write", w.real+checkpointSuffix, err)
	}
	return nil
}
