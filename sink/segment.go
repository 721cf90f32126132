package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// openFlags: every write goes to the end, wherever others moved that, and what
// was written can be read again.
const openFlags = os.O_RDWR | os.O_APPEND

// open opens the path for appending, with its folders and locks. It is called
// with the turn.
func (w *writer) open() (*segment, error) {
	fsys := w.sink.fs
	mode := fs.FileMode(w.sink.spec.Load().Mode)
	if mode == 0 {
		mode = fs.FileMode(defaultMode)
	}
	info, err := fsys.Stat(w.path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("open %s: not a regular file", w.path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fault("open", w.path, err)
	}
	isNew := err != nil
	if err := w.makeFolders(mode); err != nil {
		return nil, err
	}
	if err := w.hold(mode); err != nil {
		return nil, err
	}
	f, err := fsys.OpenFile(w.path, openFlags|os.O_CREATE, mode)
	if err != nil {
		return nil, fault("open", w.path, err)
	}
	if isNew {
		w.chmod(f, mode)
	}
	g, err := w.takeOver(f)
	if err != nil {
		_ = f.Close()
		return nil, fault("open", w.path, err)
	}
	// A process that crashed may have made the file and never synced its
	// folder, so that is done also if the file is there.
	g.folders, w.made = append(w.made, filepath.Dir(w.path)), nil
	return g, nil
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
			w.made = append(w.made, filepath.Dir(d))
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
	path := w.path + ".lock"
	if w.lock != nil {
		held, err1 := w.lock.Stat()
		named, err2 := w.sink.fs.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
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

// takeOver makes an open file a segment that ends with its last whole line. It
// locks the file itself too, for links give one file several paths, and lock
// files get deleted.
func (w *writer) takeOver(f File) (*segment, error) {
	if err := f.Lock(); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end, err := cutTorn(f, info.Size())
	if err != nil {
		return nil, err
	}
	if end < info.Size() {
		w.sink.log.Warn("torn last line was cut off", "path", w.path, "bytes", info.Size()-end)
	}
	return &segment{path: w.path, f: f, id: info, length: end, safe: end, synced: -1}, nil
}

const (
	tailBlock = 64 << 10
	// longestTail is more than any record; without a newline for so long, the
	// file is something else, and is left alone.
	longestTail = 256 << 20
)

// cutTorn cuts off what follows the last newline of the file, which is size
// bytes long, and returns the new length. The next record would else be glued
// to half of another.
func cutTorn(f File, size int64) (int64, error) {
	if size == 0 {
		return 0, nil
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return size, nil
	}
	end, err := lineEnd(f, size)
	if err != nil {
		return 0, err
	}
	return end, f.Truncate(end)
}

// lineEnd returns where the last line of the file that is whole ends.
func lineEnd(f io.ReaderAt, size int64) (int64, error) {
	block := make([]byte, tailBlock)
	for end := size; end > 0; {
		if size-end >= longestTail {
			return 0, fmt.Errorf("no newline in its last %d MiB: not written by this sink, move it away", longestTail>>20)
		}
		part := block[:min(end, tailBlock)]
		start := end - int64(len(part))
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}
