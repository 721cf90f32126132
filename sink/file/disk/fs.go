// Package disk is the file system as the file sink uses it.
//
// [FS] and [File] are interfaces, so that tests can let each call fail, and simulate a crash
// of the machine between two calls; see package disktest. [OS] is the real file system. On
// Linux it syncs files that wait at the same time with one system call.
package disk

import (
	"errors"
	"io"
	"io/fs"
)

// FS is the part of a file system that the file sink uses. Tests implement it to inject
// faults. Errors are those of package os. It is safe for concurrent use.
type FS interface {
	// OpenFile is [os.OpenFile].
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	// MkdirAll is [os.MkdirAll].
	MkdirAll(path string, perm fs.FileMode) error
	// Stat is [os.Stat].
	Stat(path string) (fs.FileInfo, error)
	// Lstat is [os.Lstat].
	Lstat(path string) (fs.FileInfo, error)
	// Resolve returns the target of a path that is a symbolic link, and otherwise the path.
	// The target need not exist.
	Resolve(path string) (string, error)
	// Rename is [os.Rename], but never replaces an existing file: then it returns
	// [fs.ErrExist]. [errors.ErrUnsupported] says that the file system has no renames.
	Rename(from, to string) error
	// Remove is [os.Remove].
	Remove(path string) error
	// List calls each with the name and inode of each entry of a folder, in any order, until
	// each returns false.
	List(dir string, each func(name string, inode uint64) bool) error
	// SyncDir makes the entries of a folder durable.
	SyncDir(path string) error
}

// File is an open file. Datasync may run at the same time as any other method.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt // requires a file that was opened without O_APPEND
	io.Closer

	Truncate(size int64) error
	Chmod(mode fs.FileMode) error
	Stat() (fs.FileInfo, error)

	// Reserve allocates n bytes on the disk after size, which is the length of the file. The
	// length does not change. Truncate frees what is not used, also if it sets the length
	// that the file has. Errors are [errors.ErrUnsupported] or those of a full disk.
	Reserve(size, n int64) error

	// BirthTime returns when the file was created, in nanoseconds since 1970; 0 if the file
	// system does not record it. It distinguishes the file from a later one with the same
	// inode.
	BirthTime() int64

	// Datasync makes the content and the length durable.
	Datasync() error

	// Lock locks the file until Close, against every other descriptor, also of this process.
	// It does not wait: it returns [ErrLocked] if another descriptor has the lock, and
	// [errors.ErrUnsupported] if the file system has no locks.
	Lock() error
}

// ErrLocked says that another writer has the file. Two writers would overwrite each other's
// records.
var ErrLocked = errors.New("locked by another consumer or agent; use another path for one of them")
