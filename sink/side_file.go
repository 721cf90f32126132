package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// A sideFile is <path>+checkpoint, open and locked: it holds the durable ledger, and
// its lock keeps every other writer from the path.
type sideFile struct {
	slots
	file File
}

// openSideFile opens the side file at a path, and makes it if there is none; lock locks it. If it was removed between the two,
// that is repeated: a lock on a file without a name excludes no other writer.
func openSideFile(fsys FS, at string, mode fs.FileMode, lock func(File) error) (*sideFile, error) {
	for range 10 {
		f, err := fsys.OpenFile(at, os.O_RDWR|os.O_CREATE, mode)
		if err != nil {
			return nil, fault("open", at, err)
		}
		if err := lock(f); err != nil {
			_ = f.Close()
			return nil, err
		}
		held, err1 := f.Stat()
		named, err2 := fsys.Stat(at)
		switch {
		case err1 == nil && err2 == nil && sameFile(held, named):
			return &sideFile{file: f, slots: slots{f: f, used: -1}}, nil
		case err1 != nil || err2 != nil && !isNotExist(err2):
			_ = f.Close()
			return nil, fault("stat", at, errors.Join(err1, err2))
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("lock %s: it is removed again and again", at)
}

// named reports whether at is still the name of the side file.
func (s *sideFile) named(fsys FS, at string) (bool, error) {
	held, err := s.file.Stat()
	if err != nil {
		return false, fault("stat", at, err)
	}
	named, err := fsys.Stat(at)
	switch {
	case err == nil && sameFile(held, named):
		return true, nil
	case err != nil && !isNotExist(err):
		return false, fault("stat", at, err)
	}
	return false, nil
}

// close releases the lock.
func (s *sideFile) close() error { return s.file.Close() }

// save makes c the newest checkpoint; see [slots.store].
func (s *sideFile) save(c *checkpoint, sync bool) error {
	body, err := c.encode()
	if err != nil {
		return err
	}
	return s.store(body, sync)
}

// readCheckpoint reads the newest checkpoint of a path without locking it; nil if
// there is none.
func readCheckpoint(fsys FS, path string) (*checkpoint, error) {
	// Another program may have put a pipe there, which would be waited for.
	f, err := fsys.OpenFile(path+checkpointSuffix, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	body, err := (&slots{f: f}).load()
	if err != nil || body == nil {
		return nil, err
	}
	return decodeCheckpoint(body)
}
