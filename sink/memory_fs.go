package sink

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
)

// A memoryFS is a file system of one folder that knows what is on its disk and
// what only in memory, so that the machine can crash. Files are made safe by
// Datasync; names by SyncDir, else in the order of the calls, as journals do.
type memoryFS struct {
	mu     sync.Mutex
	names  map[string]*memoryInode
	onDisk map[string]*memoryInode
	since  []func(map[string]*memoryInode) // changes of names since the last SyncDir
	last   uint64                          // inode
	made   int64                           // how many files were made
	calls  int                             // that change something
	stopAt int                             // the process dies before this call; 0: never
	fault  func() error                    // asked at each call, if not nil
	asking bool                            // also at those that only ask
	dead   bool
}

type memoryInode struct {
	id     uint64
	born   int64
	data   []byte
	onDisk []byte
	locked *memoryFile
	mode   fs.FileMode
}

var errDied = errors.New("the process is dead")

func newMemoryFS() *memoryFS {
	return &memoryFS{names: map[string]*memoryInode{}, onDisk: map[string]*memoryInode{}}
}

// enter counts a call; f.mu is held until the call's end.
func (f *memoryFS) enter() error {
	f.mu.Lock()
	f.calls++
	f.dead = f.dead || f.stopAt > 0 && f.calls >= f.stopAt
	if f.dead {
		return errDied
	}
	if f.fault != nil {
		return f.fault()
	}
	return nil
}

func (f *memoryFS) change(do func(names map[string]*memoryInode)) {
	do(f.names)
	f.since = append(f.since, do)
}

func (f *memoryFS) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	err := f.enter()
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	i := f.names[path]
	switch {
	case i == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	case i == nil:
		f.last++
		f.made++
		i = &memoryInode{id: f.last, born: f.made, mode: perm}
		f.change(func(n map[string]*memoryInode) { n[path] = i })
	case flag&os.O_TRUNC != 0:
		i.data = nil
	}
	return &memoryFile{fs: f, i: i, path: path}, nil
}

func (f *memoryFS) MkdirAll(string, fs.FileMode) error { return nil }

// ask is enter for a call that changes nothing, with f.mu held.
func (f *memoryFS) ask() error {
	if f.dead {
		return errDied
	}
	if f.fault != nil && f.asking {
		return f.fault()
	}
	return nil
}

func (f *memoryFS) Lstat(path string) (fs.FileInfo, error) { return f.Stat(path) }

func (f *memoryFS) Resolve(path string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return path, f.ask()
}

func (f *memoryFS) Stat(path string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if i := f.names[path]; i != nil {
		return i.info(filepath.Base(path), slices.Contains(slices.Collect(maps.Values(f.names)), i)), nil
	}
	for name := range f.names {
		if filepath.Dir(name) == path {
			return (&memoryInode{mode: fs.ModeDir}).info(path, true), nil
		}
	}
	if path == "/d" || path == "/" {
		return (&memoryInode{mode: fs.ModeDir}).info(path, true), nil
	}
	return nil, &fs.PathError{Op: "stat", Path: path, Err: syscall.ENOENT}
}

func (f *memoryFS) Rename(from, to string) error {
	err := f.enter()
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if f.names[from] == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: syscall.ENOENT}
	}
	if f.names[to] != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	f.change(func(n map[string]*memoryInode) { n[to] = n[from]; delete(n, from) })
	return nil
}

func (f *memoryFS) Remove(path string) error {
	err := f.enter()
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if f.names[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	}
	f.change(func(n map[string]*memoryInode) { delete(n, path) })
	return nil
}

func (f *memoryFS) List(dir string, each func(name string, inode uint64) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(f.names)) {
		if filepath.Dir(path) == dir && !each(filepath.Base(path), f.names[path].id) {
			break
		}
	}
	return nil
}

func (f *memoryFS) SyncDir(string) error {
	err := f.enter()
	defer f.mu.Unlock()
	if err == nil {
		f.onDisk, f.since = maps.Clone(f.names), nil
	}
	return err
}

// A loss is what a crash of the machine leaves of what was not synced.
type loss struct {
	name  string
	names func(changes int) int                           // how many of the changes of names stay
	data  func(id uint64, onDisk, inMemory []byte) []byte // the content of a file that stays
}

var losses = []loss{
	{"the process dies", func(n int) int { return n }, func(_ uint64, _, m []byte) []byte { return m }},
	{"nothing unsynced stays", func(int) int { return 0 }, func(_ uint64, d, _ []byte) []byte { return d }},
	{"names stay", func(n int) int { return n }, func(_ uint64, d, _ []byte) []byte { return d }},
	{"data stays", func(int) int { return 0 }, func(_ uint64, _, m []byte) []byte { return m }},
	{"half of all stays", func(n int) int { return n / 2 }, func(_ uint64, d, m []byte) []byte {
		same := 0
		for same < min(len(d), len(m)) && d[same] == m[same] {
			same++
		}
		half := same + (len(m)-same)/2
		return slices.Concat(m[:half], d[min(half, len(d)):])
	}},
	{"names but one, zeros for data", func(n int) int { return max(0, n-1) }, func(_ uint64, d, m []byte) []byte {
		z := make([]byte, len(m))
		copy(z, d)
		return z
	}},
	{"every other piece of the data stays", func(n int) int { return n }, func(_ uint64, d, m []byte) []byte {
		mixed := make([]byte, max(len(m), len(d)))
		copy(mixed, d)
		for at := 0; at < len(m); at += 32 {
			copy(mixed[at:], m[at:min(at+16, len(m))])
		}
		return mixed[:len(m)]
	}},
	{"the data of every other file stays", func(n int) int { return n }, func(id uint64, d, m []byte) []byte {
		if id%2 == 0 {
			return m
		}
		return d
	}},
	{"the data of the other files stays", func(n int) int { return n / 2 }, func(id uint64, d, m []byte) []byte {
		if id%2 == 1 {
			return m
		}
		return d
	}},
}

// crash is the file system as the next process finds it.
func (f *memoryFS) crash(l loss) *memoryFS {
	next := newMemoryFS()
	next.last, next.made, next.asking = f.last, f.made, f.asking
	for _, do := range f.since[:l.names(len(f.since))] {
		do(f.onDisk)
	}
	copies := make(map[*memoryInode]*memoryInode)
	for path, i := range f.onDisk {
		if i == nil {
			continue
		}
		if copies[i] == nil {
			data := slices.Clone(l.data(i.id, i.onDisk, i.data))
			copies[i] = &memoryInode{id: i.id, born: i.born, data: data, onDisk: slices.Clone(data), mode: i.mode}
		}
		next.names[path] = copies[i]
	}
	next.onDisk = maps.Clone(next.names)
	return next
}

type memoryFile struct {
	fs   *memoryFS
	i    *memoryInode
	path string
}

func (f *memoryFile) Write(p []byte) (int, error) {
	err := f.fs.enter()
	defer f.fs.mu.Unlock()
	if err != nil {
		if f.fs.dead && f.fs.calls != f.fs.stopAt {
			return 0, err
		}
		f.i.data = append(f.i.data, p[:len(p)/2]...) // it dies, or the disk is full, in the middle of it
		return len(p) / 2, err
	}
	f.i.data = append(f.i.data, p...)
	return len(p), nil
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.enter()
	defer f.fs.mu.Unlock()
	n := len(p)
	if err != nil {
		if f.fs.dead && f.fs.calls != f.fs.stopAt {
			return 0, err
		}
		n /= 2
	}
	data := make([]byte, max(int(off)+n, len(f.i.data)))
	copy(data, f.i.data)
	copy(data[off:], p[:n])
	f.i.data = data
	return n, err
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.ask(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(f.i.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.i.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) Truncate(size int64) error {
	err := f.fs.enter()
	defer f.fs.mu.Unlock()
	if err == nil {
		f.i.data = slices.Clone(f.i.data[:size])
	}
	return err
}

func (f *memoryFile) Datasync() error {
	err := f.fs.enter()
	defer f.fs.mu.Unlock()
	if err == nil {
		f.i.onDisk = slices.Clone(f.i.data)
	}
	return err
}

func (f *memoryFile) Born() int64 { return f.i.born }

func (f *memoryFile) Reserve(int64, int64) error { return errors.ErrUnsupported }

func (f *memoryFile) Lock() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.i.locked != nil && f.i.locked != f {
		return ErrLocked
	}
	f.i.locked = f
	return nil
}

func (f *memoryFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.i.locked == f {
		f.i.locked = nil
	}
	return nil
}

func (f *memoryFile) Chmod(fs.FileMode) error { return nil }

func (f *memoryFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.ask(); err != nil {
		return nil, err
	}
	return f.i.info(filepath.Base(f.path), slices.Contains(slices.Collect(maps.Values(f.fs.names)), f.i)), nil
}

func (i *memoryInode) info(name string, linked bool) fs.FileInfo {
	st := syscall.Stat_t{Ino: i.id, Dev: 1}
	if linked {
		st.Nlink = 1
	}
	return memoryInfo{name, int64(len(i.data)), i.mode, st}
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

// list names what is in the folder, sorted.
func (f *memoryFS) list() (names []string) {
	for _, path := range slices.Sorted(maps.Keys(f.names)) {
		names = append(names, filepath.Base(path))
	}
	return names
}
