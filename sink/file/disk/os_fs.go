package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// OS is the real file system.
type OS struct{}

// OpenFile implements [FS].
func (OS) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

// MkdirAll implements [FS].
func (OS) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

// Stat implements [FS].
func (OS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// Lstat implements [FS].
func (OS) Lstat(path string) (fs.FileInfo, error) { return os.Lstat(path) }

// Resolve implements [FS].
func (OS) Resolve(path string) (string, error) {
	for range 40 { // as many as the kernel follows
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
}

// Rename implements [FS].
func (OS) Rename(from, to string) error {
	err := unsupported(renameNoReplace(from, to), syscall.EINVAL)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	// A link does not replace a file either. Without links, the caller's lock and the
	// reserved name have to suffice.
	err = unsupported(os.Link(from, to), syscall.EPERM)
	switch {
	case err == nil:
		return os.Remove(from)
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// unsupported wraps [errors.ErrUnsupported] around the error by which some file systems (NFS
// without a lock daemon, FUSE, FAT) report that they lack a call. ENOSYS and EOPNOTSUPP
// already match it.
func unsupported(err error, no syscall.Errno) error {
	if errors.Is(err, no) {
		return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	return err
}

// Remove implements [FS].
func (OS) Remove(path string) error { return os.Remove(path) }

// List implements [FS].
func (OS) List(dir string, each func(name string, inode uint64) bool) error {
	return listFolder(dir, each)
}

// SyncDir implements [FS].
func (OS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // the file system cannot sync folders
	}
	return errors.Join(err, d.Close())
}

// An osFile is a file of the real file system.
type osFile struct {
	*os.File
	locked bool
	once   sync.Once
	syncer *syncer // of the file system; nil if there is none, or once has not run
}

func (f *osFile) Datasync() error { return f.datasync() }

func (f *osFile) BirthTime() (at int64) {
	_ = f.call("statx", func(fd int) (err error) { at, err = birthTime(fd); return err })
	return at
}

func (f *osFile) Reserve(size, n int64) error {
	return f.call("fallocate", func(fd int) error { return reserve(fd, size, n) })
}

func (f *osFile) Lock() error {
	err := f.call("flock", func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	f.locked = err == nil
	return unsupported(err, syscall.ENOLCK)
}

// Close releases the lock by a call of its own: a Datasync that still runs keeps the
// descriptor, and with it the lock, beyond Close.
func (f *osFile) Close() error {
	if f.locked {
		_ = f.call("flock", func(fd int) error { return syscall.Flock(fd, syscall.LOCK_UN) })
	}
	return f.File.Close()
}

// call makes a system call with the descriptor, which stays open meanwhile.
func (f *osFile) call(name string, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for failed = do(int(fd)); errors.Is(failed, syscall.EINTR); {
			failed = do(int(fd))
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return &fs.PathError{Op: name, Path: f.Name(), Err: err}
	}
	return nil
}
