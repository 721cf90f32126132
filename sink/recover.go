package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// recover makes the files what the checkpoint says, if there is one, whatever
// the process before did when it ended, and returns the length of what the path
// then names; -1 if that is to be found out. What it does may be done again, so
// it may itself be interrupted. It destroys nothing that is not known to be
// this sink's and to be read from Kafka again. It is called with all turns.
func (w *writer) recover() (length int64, err error) {
	s := w.sink
	c, err := loadCheckpoint(s.fs, w.path)
	if err != nil {
		return 0, err
	}
	if c == nil {
		return -1, w.finishRotation()
	}
	// The process before may have died between the checkpoint's rename and its
	// sync: what is seen here may still be forgotten by the machine.
	if dir := filepath.Dir(w.path); s.spec.Load().Durability != None {
		if err := s.fs.SyncDir(dir); err != nil {
			return 0, fault("sync folder", dir, err)
		}
	}
	if c.Done != nil {
		err = w.finishRenames(c)
	} else {
		err = w.dropNext()
	}
	if err == nil {
		length, err = w.cut(c.File)
	}
	if err != nil {
		return 0, err
	}
	w.last = c
	if !s.exact {
		// Without an account the file soon holds more than the checkpoint says.
		if err := s.fs.Remove(w.path + checkpointSuffix); err != nil {
			return 0, fault("remove", w.path+checkpointSuffix, err)
		}
		return length, nil
	}
	if !w.remember(c, s.group) {
		s.log.Warn("the file was filled for another group: this one begins where its own offsets say", "path", w.path, "group", s.group, "was", c.Group)
	}
	w.done = c.Done
	return length, nil
}

// finishRotation does what is left of a rotation without a checkpoint.
func (w *writer) finishRotation() error {
	fsys, next := w.sink.fs, w.path+nextSuffix
	if _, err := fsys.Stat(next); err != nil {
		if isNotExist(err) {
			return nil
		}
		return fault("stat", next, err)
	}
	if info, err := fsys.Stat(w.path); err == nil && info.Size() > 0 {
		if err := w.endFile(); err != nil {
			return err
		}
	}
	if err := fsys.Rename(next, w.path); err != nil {
		return fault("rename", next, err)
	}
	return nil
}

// endFile gives what the path names a final name.
func (w *writer) endFile() error {
	fsys := w.sink.fs
	f, err := fsys.OpenFile(w.path, openFlags, 0)
	if err != nil {
		return fault("open", w.path, err)
	}
	defer f.Close()
	g, err := w.takeOver(f, -1)
	if err != nil {
		return fault("open", w.path, err)
	}
	w.current = g
	defer func() { w.current = nil }()
	final, err := w.finalName(time.Now())
	if err != nil {
		return err
	}
	if err := fsys.Rename(w.path, final); err != nil {
		return fault("rename", w.path, err)
	}
	return nil
}

// dropNext removes a file that was begun and that no checkpoint counts on.
func (w *writer) dropNext() error {
	if err := w.sink.fs.Remove(w.path + nextSuffix); err != nil && !isNotExist(err) {
		return fault("remove", w.path+nextSuffix, err)
	}
	return nil
}

// finishRenames does what is left of a rotation that the checkpoint knows. If
// <path>.next is not what is to grow, both renames are done, and it is of a
// later rotation that no checkpoint counts on.
func (w *writer) finishRenames(c *checkpoint) error {
	next := w.path + nextSuffix
	if waits, err := w.isAt(next, c.File); err != nil {
		return err
	} else if !waits {
		return w.dropNext()
	}
	full, err := w.isAt(w.path, c.Done)
	if err != nil {
		return err
	}
	if full {
		if err := w.sink.fs.Rename(w.path, filepath.Join(filepath.Dir(w.path), c.Done.Name)); err != nil {
			return fault("rename", w.path, err)
		}
	} else if info, err := w.sink.fs.Stat(w.path); err == nil && info.Size() > 0 {
		return w.foreign()
	}
	if err := w.sink.fs.Rename(next, w.path); err != nil {
		return fault("rename", next, err)
	}
	return nil
}

// isAt reports whether path names the file that m describes.
func (w *writer) isAt(path string, m *fileMark) (bool, error) {
	f, err := w.sink.fs.OpenFile(path, os.O_RDONLY, 0)
	if isNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fault("open", path, err)
	}
	defer f.Close()
	is, err := m.is(f)
	if err != nil {
		return false, fault("read", path, err)
	}
	return is, nil
}

// foreign says that the path names a file that the checkpoint is not about.
func (w *writer) foreign() error {
	at := w.path + checkpointSuffix
	return fmt.Errorf("open %s: %s was made for another file, or this one was changed: "+
		"put the right one back, or move both away to begin a new file at the committed offsets", w.path, at)
}

// cut takes off the path's file what the checkpoint does not cover, and returns
// its length then.
func (w *writer) cut(m *fileMark) (int64, error) {
	f, err := w.sink.fs.OpenFile(w.path, os.O_RDWR, 0)
	if isNotExist(err) {
		return -1, w.cutMoved(m)
	}
	if err != nil {
		return 0, fault("open", w.path, err)
	}
	defer f.Close()
	// The lock first: another sink that has the file under another name must
	// not lose what it writes.
	if err := f.Lock(); err != nil {
		return 0, fault("open", w.path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fault("open", w.path, err)
	}
	if m == nil { // the checkpoint knows of no file at the path
		if info.Size() == 0 {
			return 0, nil
		}
		return 0, w.foreign()
	}
	same := inode(info) == m.Inode
	ok, err := m.is(f)
	switch size := info.Size(); {
	case err != nil:
		return 0, fault("read", w.path, err)
	case ok:
		return m.Length, w.shorten(f, w.path, size, m.Length)
	case same && size < m.Length:
		return 0, fmt.Errorf("open %s: it has %d bytes, but %s%s says that %d are safe: "+
			"restore the file, or move both away to begin a new one at the committed offsets",
			w.path, size, w.path, checkpointSuffix, m.Length)
	case !same && size == 0: // made by whoever moved ours away
		return 0, w.cutMoved(m)
	}
	return 0, w.foreign()
}

func (w *writer) shorten(f File, path string, size, length int64) error {
	if size == length {
		return nil
	}
	if err := f.Truncate(length); err != nil {
		return fault("cut the unsafe end of", path, err)
	}
	w.sink.log.Info("records that no checkpoint covers were cut off, to be read again", "path", path, "bytes", size-length)
	return nil
}

// cutMoved takes what the checkpoint does not cover off a file that was moved
// within its folder while nobody wrote it. If it is not found there, it was
// deleted or moved farther, which is its owner's right.
func (w *writer) cutMoved(m *fileMark) error {
	if m == nil {
		return nil
	}
	dir := filepath.Dir(w.path)
	names, err := w.sink.fs.List(dir)
	if err != nil && !isNotExist(err) {
		return fault("list", dir, err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := w.sink.fs.Stat(path); err != nil || !info.Mode().IsRegular() || inode(info) != m.Inode || reserved(path) {
			continue
		}
		found, err := w.cutIfOurs(path, m)
		if err != nil || found {
			return err
		}
	}
	if m.Length > 0 {
		w.sink.log.Warn("sink file is gone, a new one goes on where it ended", "path", w.path, "bytes", m.Length)
	}
	return nil
}

func (w *writer) cutIfOurs(path string, m *fileMark) (bool, error) {
	f, err := w.sink.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, fault("open", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, fault("open", path, err)
	}
	ok, err := m.is(f)
	if err != nil {
		return false, fault("read", path, err)
	}
	if !ok {
		return false, nil
	}
	w.sink.log.Info("sink file was moved, a new one goes on where it ended", "path", w.path, "to", path)
	if err := w.shorten(f, path, info.Size(), m.Length); err != nil {
		return true, err
	}
	// The next checkpoint names the new file, so nobody comes to cut this one
	// again if the machine forgets it.
	if err := f.Datasync(); err != nil {
		return true, fault("sync", path, err)
	}
	return true, nil
}
