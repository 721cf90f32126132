package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// A Store is the open and locked file <path>+checkpoint. It stores checkpoints, and its lock
// keeps every other writer from the path.
type Store struct {
	slots
	file disk.File
}

// OpenStore opens the file at a path, or creates it, and locks it by calling lock. If the
// file was removed between the two, it tries again: a lock on a file without a name excludes
// no other writer.
func OpenStore(fsys disk.FS, at string, mode fs.FileMode, lock func(disk.File) error) (*Store, error) {
	for range 10 {
		f, err := fsys.OpenFile(at, os.O_RDWR|os.O_CREATE, mode)
		if err != nil {
			return nil, sinkio.OpError("open", at, err)
		}
		if err := lock(f); err != nil {
			_ = f.Close()
			return nil, err
		}
		held, err1 := f.Stat()
		named, err2 := fsys.Stat(at)
		switch {
		case err1 == nil && err2 == nil && disk.SameFile(held, named):
			return &Store{file: f, slots: slots{f: f, newest: -1}}, nil
		case err1 != nil || err2 != nil && !disk.IsNotExist(err2):
			_ = f.Close()
			return nil, sinkio.OpError("stat", at, errors.Join(err1, err2))
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("lock %s: another program keeps removing it", at)
}

// HasName reports whether at is still the name of the file.
func (s *Store) HasName(fsys disk.FS, at string) (bool, error) {
	held, err := s.file.Stat()
	if err != nil {
		return false, sinkio.OpError("stat", at, err)
	}
	named, err := fsys.Stat(at)
	switch {
	case err == nil && disk.SameFile(held, named):
		return true, nil
	case err != nil && !disk.IsNotExist(err):
		return false, sinkio.OpError("stat", at, err)
	}
	return false, nil
}

// Close closes the file, which releases the lock.
func (s *Store) Close() error { return s.file.Close() }

// Save makes c the newest checkpoint, durably if sync is set. After an error it is unknown
// whether it is; see [slots.store].
func (s *Store) Save(c *Checkpoint, sync bool) error {
	body, err := c.encode()
	if err != nil {
		return err
	}
	return s.store(body, sync)
}

// Read returns the newest checkpoint of a path without locking it; nil if there is none.
func Read(fsys disk.FS, path string) (*Checkpoint, error) {
	// Opening a pipe, which another program may have put there, would block without
	// O_NONBLOCK.
	f, err := fsys.OpenFile(path+filename.CheckpointSuffix, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if disk.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	body, err := (&slots{f: f}).Load()
	if err != nil || body == nil {
		return nil, err
	}
	return Decode(body)
}
