// Package disktest has file systems for tests of the file sink. [MemoryFS] can lose what was
// not synced, as a crash of the machine does. [FaultFS] lets calls of the real file system
// fail.
package disktest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"kcagent/sink/file/disk"
)

// A MemoryFS is a file system of one folder that separates what is on its disk from what is
// only in memory, so that tests can simulate a crash of the machine. Datasync makes content
// durable, and SyncDir names. Without SyncDir, changes of names become durable in their
// order, as with a journal.
type MemoryFS struct {
	Mu         sync.Mutex
	Files      map[string]*MemoryInode
	onDisk     map[string]*MemoryInode
	since      []func(map[string]*MemoryInode) // changes of names since the last SyncDir
	LastInode  uint64                          // the last inode number that was used
	created    int64                           // how many files were created
	Calls      int                             // number of calls that change something
	StopAt     int                             // the process dies before this call; 0: never
	Fault      func() error                    // called by each call that changes something, if not nil
	FaultReads bool                            // Fault is called by calls that only read, too
	Dead       bool
}

// A MemoryInode is a file of a [MemoryFS], with any number of names.
type MemoryInode struct {
	ID     uint64
	born   int64
	Data   []byte // never changed in place, only appended to or replaced
	OnDisk []byte // may share memory with Data
	locked *memoryFile
	mode   fs.FileMode
}

// ErrDied is the error of each call after the process has died.
var ErrDied = errors.New("the process is dead")

// NewMemoryFS returns an empty MemoryFS, with the folder /d.
func NewMemoryFS() *MemoryFS {
	return &MemoryFS{Files: map[string]*MemoryInode{}, onDisk: map[string]*MemoryInode{}}
}

// File returns the file with a name; nil if there is none. Unlike Files, it may be used while other
// goroutines use the file system.
func (f *MemoryFS) File(path string) *MemoryInode {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.Files[path]
}

// enter counts a call. It locks f.mu, which the caller unlocks.
func (f *MemoryFS) enter() error {
	f.Mu.Lock()
	f.Calls++
	f.Dead = f.Dead || f.StopAt > 0 && f.Calls >= f.StopAt
	if f.Dead {
		return ErrDied
	}
	if f.Fault != nil {
		return f.Fault()
	}
	return nil
}

// change applies a change of names. The caller holds f.mu.
func (f *MemoryFS) change(do func(names map[string]*MemoryInode)) {
	do(f.Files)
	f.since = append(f.since, do)
}

// OpenFile implements [disk.FS].
func (f *MemoryFS) OpenFile(path string, flag int, perm fs.FileMode) (disk.File, error) {
	err := f.enter()
	defer f.Mu.Unlock()
	if err != nil {
		return nil, err
	}
	i := f.Files[path]
	switch {
	case i == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	case i == nil:
		f.LastInode++
		f.created++
		i = &MemoryInode{ID: f.LastInode, born: f.created, mode: perm}
		f.change(func(n map[string]*MemoryInode) { n[path] = i })
	case flag&os.O_TRUNC != 0:
		i.Data = nil
	}
	return &memoryFile{fs: f, i: i, path: path}, nil
}

// MkdirAll implements [disk.FS].
func (f *MemoryFS) MkdirAll(string, fs.FileMode) error { return nil }

// read is enter for a call that changes nothing. The caller holds f.mu.
func (f *MemoryFS) read() error {
	if f.Dead {
		return ErrDied
	}
	if f.Fault != nil && f.FaultReads {
		return f.Fault()
	}
	return nil
}

// Lstat implements [disk.FS].
func (f *MemoryFS) Lstat(path string) (fs.FileInfo, error) { return f.Stat(path) }

// Resolve implements [disk.FS].
func (f *MemoryFS) Resolve(path string) (string, error) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return path, f.read()
}

// Stat implements [disk.FS].
func (f *MemoryFS) Stat(path string) (fs.FileInfo, error) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if err := f.read(); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if i := f.Files[path]; i != nil {
		return i.info(filepath.Base(path), slices.Contains(slices.Collect(maps.Values(f.Files)), i)), nil
	}
	for name := range f.Files {
		if filepath.Dir(name) == path {
			return (&MemoryInode{mode: fs.ModeDir}).info(path, true), nil
		}
	}
	if path == "/d" || path == "/" {
		return (&MemoryInode{mode: fs.ModeDir}).info(path, true), nil
	}
	return nil, &fs.PathError{Op: "stat", Path: path, Err: syscall.ENOENT}
}

// Rename implements [disk.FS].
func (f *MemoryFS) Rename(from, to string) error {
	err := f.enter()
	defer f.Mu.Unlock()
	if err != nil {
		return err
	}
	if f.Files[from] == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: syscall.ENOENT}
	}
	if f.Files[to] != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	f.change(func(n map[string]*MemoryInode) { n[to] = n[from]; delete(n, from) })
	return nil
}

// Remove implements [disk.FS].
func (f *MemoryFS) Remove(path string) error {
	err := f.enter()
	defer f.Mu.Unlock()
	if err != nil {
		return err
	}
	if f.Files[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	}
	f.change(func(n map[string]*MemoryInode) { delete(n, path) })
	return nil
}

// List implements [disk.FS].
func (f *MemoryFS) List(dir string, each func(name string, inode uint64) bool) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if err := f.read(); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(f.Files)) {
		if filepath.Dir(path) == dir && !each(filepath.Base(path), f.Files[path].ID) {
			break
		}
	}
	return nil
}

// SyncDir implements [disk.FS].
func (f *MemoryFS) SyncDir(string) error {
	err := f.enter()
	defer f.Mu.Unlock()
	if err == nil {
		f.onDisk, f.since = maps.Clone(f.Files), nil
	}
	return err
}

// A memoryFile is an open file of a MemoryFS.
type memoryFile struct {
	fs   *MemoryFS
	i    *MemoryInode
	path string
}

func (f *memoryFile) Write(p []byte) (int, error) {
	err := f.fs.enter()
	defer f.fs.Mu.Unlock()
	if err != nil {
		if f.fs.Dead && f.fs.Calls != f.fs.StopAt {
			return 0, err
		}
		f.i.Data = append(f.i.Data, p[:len(p)/2]...) // the process dies, or the disk is full, in the middle of the write
		return len(p) / 2, err
	}
	f.i.Data = append(f.i.Data, p...)
	return len(p), nil
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.enter()
	defer f.fs.Mu.Unlock()
	n := len(p)
	if err != nil {
		if f.fs.Dead && f.fs.Calls != f.fs.StopAt {
			return 0, err
		}
		n /= 2
	}
	data := make([]byte, max(int(off)+n, len(f.i.Data)))
	copy(data, f.i.Data)
	copy(data[off:], p[:n])
	f.i.Data = data
	return n, err
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if err := f.fs.read(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(f.i.Data)) {
		return 0, io.EOF
	}
	n := copy(p, f.i.Data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) Truncate(size int64) error {
	err := f.fs.enter()
	defer f.fs.Mu.Unlock()
	if err == nil {
		f.i.Data = slices.Clone(f.i.Data[:size])
	}
	return err
}

func (f *memoryFile) Datasync() error {
	err := f.fs.enter()
	defer f.fs.Mu.Unlock()
	if err == nil {
		f.i.OnDisk = slices.Clip(f.i.Data)
	}
	return err
}

func (f *memoryFile) BirthTime() int64 { return f.i.born }

func (f *memoryFile) Reserve(int64, int64) error { return errors.ErrUnsupported }

func (f *memoryFile) Lock() error {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if f.i.locked != nil && f.i.locked != f {
		return disk.ErrLocked
	}
	f.i.locked = f
	return nil
}

func (f *memoryFile) Close() error {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if f.i.locked == f {
		f.i.locked = nil
	}
	return nil
}

func (f *memoryFile) Chmod(fs.FileMode) error { return nil }

func (f *memoryFile) Stat() (fs.FileInfo, error) {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if err := f.fs.read(); err != nil {
		return nil, err
	}
	return f.i.info(filepath.Base(f.path), slices.Contains(slices.Collect(maps.Values(f.fs.Files)), f.i)), nil
}

func (i *MemoryInode) info(name string, linked bool) fs.FileInfo {
	st := syscall.Stat_t{Ino: i.ID, Dev: 1}
	if linked {
		st.Nlink = 1
	}
	return memoryInfo{name, int64(len(i.Data)), i.mode, st}
}

type memoryInfo struct {
	name string
	size int64
	mode fs.FileMode
	stat syscall.Stat_t
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return i.size }
func (i memoryInfo) Mode() fs.FileMode  { return i.mode }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memoryInfo) Sys() any           { return &i.stat }

// FileNames returns the names of the files, sorted.
func (f *MemoryFS) FileNames() (names []string) {
	for _, path := range slices.Sorted(maps.Keys(f.Files)) {
		names = append(names, filepath.Base(path))
	}
	return names
}
