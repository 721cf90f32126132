package sink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// FS is the part of a file system that sinks use, and the place where tests
// put faults. Errors are those of package os. It is safe for concurrent use.
type FS interface {
	// OpenFile is [os.OpenFile].
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	// MkdirAll is [os.MkdirAll].
	MkdirAll(path string, perm fs.FileMode) error
	// Stat is [os.Stat].
	Stat(path string) (fs.FileInfo, error)
	// Lstat is [os.Lstat].
	Lstat(path string) (fs.FileInfo, error)
	// Resolve returns where a path leads if it is a symbolic link, and else the path. The
	// file there need not exist.
	Resolve(path string) (string, error)
	// Rename is [os.Rename], but never replaces a file that has the new name: that
	// is [fs.ErrExist]. [errors.ErrUnsupported] says that files cannot be renamed.
	Rename(from, to string) error
	// Remove is [os.Remove].
	Remove(path string) error
	// List calls each with the name and inode of each entry of a folder, in any
	// order, until it returns false.
	List(dir string, each func(name string, inode uint64) bool) error
	// SyncDir makes the entries of a folder survive a crash of the machine.
	SyncDir(path string) error
}

// File is an open file. Datasync may run beside any other method.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt // of a file that was not opened with O_APPEND
	io.Closer

	Truncate(size int64) error
	Chmod(mode fs.FileMode) error
	Stat() (fs.FileInfo, error)

	// Reserve allocates n bytes on the disk behind size, the file's length, which
	// stays. To shorten the file, or to set the length it has, gives back what is
	// not used. Errors are [errors.ErrUnsupported] or those of a full disk.
	Reserve(size, n int64) error

	// Born is when the file was made, in nanoseconds since 1970; 0 if the file
	// system does not say. It tells a file from a later one with its inode.
	Born() int64

	// Datasync makes the content and the length survive a crash of the machine.
	Datasync() error

	// Lock keeps every other descriptor, of this process too, from locking the
	// file until Close. It does not wait: [ErrLocked] says that one has it, and
	// [errors.ErrUnsupported] that the file system has no locks.
	Lock() error
}

// ErrLocked says that another descriptor holds a file that one alone may write.
var ErrLocked = errors.New("locked by another consumer or agent: two may not write one file")

// osFS is the real file system.
type osFS struct{}

func (osFS) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

func (osFS) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

func (osFS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

func (osFS) Lstat(path string) (fs.FileInfo, error) { return os.Lstat(path) }

func (osFS) Resolve(path string) (string, error) {
	for range 40 { // as the kernel
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

func (osFS) Rename(from, to string) error {
	err := lacks(renameNoReplace(from, to), syscall.EINVAL)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	// A link does not replace either. Where there are none, the lock of the caller
	// and a name that is reserved for it have to do.
	err = lacks(os.Link(from, to), syscall.EPERM)
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

// lacks makes an error [errors.ErrUnsupported] if it is the one by which some file
// systems (NFS without a lock daemon, FUSE, FAT) say that they lack a call. ENOSYS
// and EOPNOTSUPP are already.
func lacks(err error, no syscall.Errno) error {
	if errors.Is(err, no) {
		return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	return err
}

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) List(dir string, each func(name string, inode uint64) bool) error {
	return listFolder(dir, each)
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // this file system has no such call for folders
	}
	return errors.Join(err, d.Close())
}

type osFile struct {
	*os.File
	locked bool
	once   sync.Once
	syncer *syncer // of its file system; nil if there is none, or once has not run
}

func (f *osFile) Datasync() error { return f.datasync() }

func (f *osFile) Born() (at int64) {
	_ = f.call("statx", func(fd int) (err error) { at, err = born(fd); return err })
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
	return lacks(err, syscall.ENOLCK)
}

// Close gives the lock back by a call of its own: a Datasync under way keeps
// the descriptor, and with it the lock, beyond Close.
func (f *osFile) Close() error {
	if f.locked {
		_ = f.call("flock", func(fd int) error { return syscall.Flock(fd, syscall.LOCK_UN) })
	}
	return f.File.Close()
}

// call makes a system call on a descriptor that stays open for its duration.
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

// unlinked reports whether no folder names the file any more.
func unlinked(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// inode is the number of a file in its file system; 0 if there is none.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// spare is how much more a file takes of the disk than its length says.
func spare(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks*512 - info.Size()
	}
	return 0
}

// sameFile is [os.SameFile] for any FS.
func sameFile(a, b fs.FileInfo) bool {
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && x.Ino == y.Ino && x.Dev == y.Dev
}

// fault is the error that a user sees: what was tried, on which path, the cause
// once, and the next step where there is an obvious one.
func fault(op, path string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s %s: %w%s", op, path, err, advice(err))
}

func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return " (make room; the records wait in Kafka)"
	case errors.Is(err, fs.ErrPermission):
		return " (let the agent's user write there)"
	case errors.Is(err, syscall.EROFS):
		return " (mount it for writing)"
	case errors.Is(err, syscall.EIO):
		return " (look at the disk; the records wait in Kafka)"
	}
	return ""
}
