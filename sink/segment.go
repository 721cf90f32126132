package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// openFlags: every write goes to the end, wherever others moved that, and what
// was written can be read again.
const openFlags = os.O_RDWR | os.O_APPEND

// begin makes current a file that records may be appended to: it opens the path
// and has a checkpoint name it. Of a file that no checkpoint names nobody could
// say after a crash which of its bytes are records of this sink. It is called
// with all turns.
func (w *writer) begin() error {
	if err := w.sink.loss(); err != nil {
		return err
	}
	if w.current == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if g := w.current; w.sink.exact && !g.named && w.full == nil {
		c := &checkpoint{Done: w.done}
		if w.last != nil && w.last.Group == w.sink.group {
			c.Topics = w.last.Topics
		}
		var err error
		if c.File, err = markOf(g, g.f, g.length); err != nil {
			return err
		}
		if err := w.store(c); err != nil {
			return err
		}
		g.named = true
	}
	return nil
}

// open opens the path for appending, with its folders and locks. It is called
// with all turns.
func (w *writer) open() error {
	s := w.sink
	switch info, err := s.fs.Stat(w.path); {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("open %s: not a regular file", w.path)
	case err != nil && !isNotExist(err):
		return fault("open", w.path, err)
	}
	if err := w.makeFolders(s.mode()); err != nil {
		return err
	}
	if err := w.hold(s.mode()); err != nil {
		return err
	}
	known := int64(-1)
	if !w.loaded {
		var err error
		if known, err = w.recover(); err != nil {
			return err
		}
		w.loaded = true
		w.prune(time.Now())
	}
	before, err := s.fs.Stat(w.path)
	isNew := isNotExist(err)
	f, err := s.fs.OpenFile(w.path, openFlags|os.O_CREATE, s.mode())
	if err != nil {
		return fault("open", w.path, err)
	}
	if isNew {
		w.chmod(f, s.mode())
	}
	if w.current, err = w.takeOver(f, known); err != nil {
		_ = f.Close()
		return fault("open", w.path, err)
	}
	if w.current.length > 0 && !isNew {
		w.setEnd(w.current, before.ModTime())
	}
	// A process that crashed may have made the file and never synced its
	// folder, so that is done also if the file is there.
	w.folders = append(w.folders, filepath.Dir(w.path))
	return nil
}

// takeOver makes an open file a segment that ends with its last whole line,
// frame or member; known is where that is, or -1. It locks the file itself too,
// for links give one file several paths, and lock files get deleted.
func (w *writer) takeOver(f File, known int64) (*segment, error) {
	if err := f.Lock(); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	g := &segment{path: w.path, f: f, id: info, born: f.Born(), length: info.Size(), codec: compression(w.sink.spec.Load()), synced: -1}
	switch {
	case g.length == 0:
	case known >= 0:
		g.codec = w.last.File.Compression
	default:
		if g.codec, err = classify(f, g.length, g.codec); err == nil {
			g.length, err = w.cutTorn(f, g.length, g.codec)
		}
		if err != nil {
			return nil, err
		}
		if g.length == 0 { // nothing of it stays
			g.codec = compression(w.sink.spec.Load())
		}
	}
	if spare(info) > busyBytes/2 {
		g.room = g.length // a process that died reserved it; trim gives it back
	}
	g.safe = g.length
	if c := w.last; c != nil && c.File != nil {
		g.named = known >= 0 && c.File.Inode == inode(info) && c.Group == w.sink.group
	}
	return g, nil
}

// cutTorn cuts off what follows the last whole record of a file that is size
// bytes long, and returns the new length. The next record would else be glued
// to half of another.
func (w *writer) cutTorn(f File, size int64, c Compression) (int64, error) {
	end, err := wholeEnd(f, size, c)
	if err != nil || end == size {
		return end, err
	}
	w.sink.log.Warn("torn last record was cut off", "path", w.path, "bytes", size-end)
	return end, f.Truncate(end)
}

// chmod gives a new file its mode whatever the umask, which is for programs
// that were not told one. Some file systems have modes of their own and refuse.
func (w *writer) chmod(f File, mode fs.FileMode) {
	if err := f.Chmod(mode); err != nil {
		w.sink.log.Warn("sink file does not take its mode", "path", w.path, "mode", Mode(mode).String(), "error", err)
	}
}

// makeFolders makes the folders above the path. Whoever may read the files may
// enter them.
func (w *writer) makeFolders(mode fs.FileMode) error {
	dir := filepath.Dir(w.path)
	missing, err := missingFolders(w.sink.fs, dir)
	if err == nil && len(missing) > 0 {
		for _, d := range missing {
			w.folders = append(w.folders, filepath.Dir(d))
		}
		err = w.sink.fs.MkdirAll(dir, 0o700|mode|mode&0o444>>2)
	}
	if err != nil {
		return fault("make folder", dir, err)
	}
	return nil
}

// missingFolders lists what is missing of dir and the folders above it.
func missingFolders(fsys FS, dir string) ([]string, error) {
	var missing []string
	for {
		_, err := fsys.Stat(dir)
		if err == nil {
			return missing, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		missing = append(missing, dir)
		parent := filepath.Dir(dir)
		if parent == dir {
			return missing, nil
		}
		dir = parent
	}
}

// hold takes the lock that keeps other sinks from the path, over all the files
// that the path will name. If somebody deleted the lock file, it is made anew.
func (w *writer) hold(mode fs.FileMode) error {
	path := w.path + lockSuffix
	if w.lock != nil {
		held, err1 := w.lock.Stat()
		named, err2 := w.sink.fs.Stat(path)
		if err1 == nil && err2 == nil && sameFile(held, named) {
			return nil
		}
		_ = w.lock.Close()
		w.lock = nil
	}
	f, err := w.sink.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return fault("lock", path, err)
	}
	if err := f.Lock(); err != nil {
		_ = f.Close()
		return fault("open", w.path, err)
	}
	w.lock = f
	return nil
}
