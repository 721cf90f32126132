package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"kcagent/sink/file/disk"
)

// A FaultFS is the real file system with faults. It records the calls that change something,
// in order, as "op name".
type FaultFS struct {
	disk.OS

	mu    sync.Mutex
	calls []string
	fail  func(op, name string) error // called before each call, which returns its error; nil injects none
	room  int64                       // bytes until the disk is full; negative: no limit
}

// NewFaultFS returns a FaultFS without faults.
func NewFaultFS() *FaultFS { return &FaultFS{room: -1} }

// SetFault sets a function that is called before each call, and whose error the call
// returns.
func (f *FaultFS) SetFault(fail func(op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// SetRoom sets how many bytes can be written until the disk is full; negative is no limit.
func (f *FaultFS) SetRoom(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

// Trace returns the calls since the last Trace.
func (f *FaultFS) Trace() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := slices.Clone(f.calls)
	f.calls = nil
	return calls
}

// enter records a call. It calls the fault without the lock, so that the fault may block.
func (f *FaultFS) enter(op, path string) error {
	name := filepath.Base(path)
	f.mu.Lock()
	f.calls = append(f.calls, op+" "+name)
	fail := f.fail
	f.mu.Unlock()
	if fail == nil {
		return nil
	}
	if err := fail(op, name); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// OpenFile implements [disk.FS].
func (f *FaultFS) OpenFile(path string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := f.enter("open", path); err != nil {
		return nil, err
	}
	file, err := f.OS.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f, path: path}, nil
}

// MkdirAll implements [disk.FS].
func (f *FaultFS) MkdirAll(path string, perm fs.FileMode) error {
	if err := f.enter("mkdir", path); err != nil {
		return err
	}
	return f.OS.MkdirAll(path, perm)
}

// Rename implements [disk.FS].
func (f *FaultFS) Rename(from, to string) error {
	if err := f.enter("rename", from); err != nil {
		return err
	}
	return f.OS.Rename(from, to)
}

// Remove implements [disk.FS].
func (f *FaultFS) Remove(path string) error {
	if err := f.enter("remove", path); err != nil {
		return err
	}
	return f.OS.Remove(path)
}

// SyncDir implements [disk.FS].
func (f *FaultFS) SyncDir(path string) error {
	if err := f.enter("syncdir", path); err != nil {
		return err
	}
	return f.OS.SyncDir(path)
}

// A faultFile is a file of a FaultFS.
type faultFile struct {
	disk.File
	fs   *FaultFS
	path string
}

// Write fills the disk by a short write without an error, as the system call does. Only the
// next write fails.
func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.fs.enter("write", f.path); err != nil {
		return 0, err
	}
	n := f.fs.take(len(p))
	if n == 0 && len(p) > 0 {
		return 0, &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
	}
	return f.File.Write(p[:n])
}

// take returns how many of n bytes the disk has room for, which they use then.
func (f *FaultFS) take(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room >= 0 {
		n = int(min(int64(n), f.room))
		f.room -= int64(n)
	}
	return n
}

// WriteAt is Write at an offset. That of a checkpoint is another operation, and does not count as
// room on the disk.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if strings.HasSuffix(f.path, "+checkpoint") {
		if err := f.fs.enter("writeat", f.path); err != nil {
			return 0, err
		}
		return f.File.WriteAt(p, off)
	}
	if err := f.fs.enter("write", f.path); err != nil {
		return 0, err
	}
	n := f.fs.take(len(p))
	written, err := f.File.WriteAt(p[:n], off)
	if err == nil && n < len(p) {
		err = &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
	}
	return written, err
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.enter("truncate", f.path); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Datasync() error {
	if err := f.fs.enter("datasync", f.path); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f *faultFile) Chmod(mode fs.FileMode) error {
	if err := f.fs.enter("chmod", f.path); err != nil {
		return err
	}
	return f.File.Chmod(mode)
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	fail := f.fs.fail
	f.fs.mu.Unlock()
	if fail != nil { // not recorded: it changes nothing
		if err := fail("fstat", filepath.Base(f.path)); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: f.path, Err: err}
		}
	}
	return f.File.Stat()
}

func (f *faultFile) Lock() error {
	f.fs.mu.Lock()
	fail := f.fs.fail
	f.fs.mu.Unlock()
	if fail != nil { // not recorded: it changes nothing
		if err := fail("lock", filepath.Base(f.path)); err != nil {
			err = &fs.PathError{Op: "lock", Path: f.path, Err: err}
			if errors.Is(err, syscall.ENOLCK) {
				err = fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
			}
			return err
		}
	}
	return f.File.Lock()
}

func (f *faultFile) Close() error {
	_ = f.fs.enter("close", f.path)
	return f.File.Close()
}
