// Package disk is the file system as the file sink uses it.
//
// [FS] and [File] are small interfaces, so that tests can let each call fail, and simulate a
// crash of the machine between two calls (package disktest). [OS] is the real file system. On
// Linux it syncs files that wait at the same time together, by one system call.
package disk

import (
	"errors"
	"io"
	"io/fs"
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
	BirthTime() int64

	// Datasync makes the content and the length survive a crash of the machine.
	Datasync() error

	// Lock keeps every other descriptor, of this process too, from locking the
	// file until Close. It does not wait: [ErrLocked] says that one has it, and
	// [errors.ErrUnsupported] that the file system has no locks.
	Lock() error
}

// ErrLocked says that another descriptor holds a file that one alone may write.
var ErrLocked = errors.New("locked by another consumer or agent: two may not write one file")
