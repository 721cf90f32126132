package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxFileSize bounds what is read of a configuration file, in bytes: far more
// than any file a person keeps, and little enough to hold in memory.
const maxFileSize = 8 << 20

// readFile returns the content of a configuration file and when it was last
// modified, by the clock of its file system.
func readFile(path string) (data []byte, modified time.Time, err error) {
	// A pipe or a device is refused before it is opened: either may block for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("read file: it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	if data, err = io.ReadAll(io.LimitReader(f, maxFileSize+1)); err != nil {
		return nil, time.Time{}, err
	}
	if len(data) > maxFileSize {
		return nil, time.Time{}, fmt.Errorf("read file: it is larger than %d MiB", maxFileSize>>20)
	}
	// Asked after the read, so that a write during it makes the file look young.
	if info, err = f.Stat(); err != nil {
		return nil, time.Time{}, err
	}
	return data, info.ModTime(), nil
}

// readProblem tells a user why the file at path could not be read.
func readProblem(path string, err error) Problem {
	p := Problem{File: path, Message: err.Error()}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		p.Message = pe.Op + " file: " + pe.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "put the file there; to run no consumers at all, write `consumers: []` into it"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "let the user that runs kcagent read the file and enter its directories"
	}
	return p
}

// nameLimit adds the limit that an error of inotify is about, but does not name.
func nameLimit(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w: raise fs.inotify.max_user_instances or the limit of open files", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: raise fs.inotify.max_user_watches", err)
	}
	return err
}

// eyes watch the ways to some files with fsnotify, all through one descriptor of
// inotify: a user may have few of those.
type eyes struct {
	paths  []string // absolute
	fs     *fsnotify.Watcher
	failed chan error
	pump   sync.WaitGroup

	ways []way                  // of paths
	file map[string]os.FileInfo // by real path: the file that its watch is for
}

// openEyes starts to watch nothing yet; follow adds the watches.
func openEyes(paths ...string) (notifier, error) {
	watcher, err := fsnotify.NewBufferedWatcher(256)
	if err != nil {
		return nil, nameLimit(err)
	}
	e := &eyes{fs: watcher, failed: make(chan error, 1), file: make(map[string]os.FileInfo)}
	if err := e.aim(paths); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	// fsnotify sends some errors under the lock that Add takes: if the
	// goroutine that calls Add were to read them too, an error at that moment
	// would block both for ever. One error is as good as many.
	e.pump.Go(func() {
		for err := range watcher.Errors {
			select {
			case e.failed <- err:
			default:
			}
		}
	})
	return e, nil
}

// aim sets which files to watch, from the next follow on.
func (e *eyes) aim(paths []string) error {
	e.paths = slices.Clone(paths)
	for i, path := range paths {
		if filepath.IsAbs(path) {
			continue
		}
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		// Not filepath.Abs: it takes a/link/.. for a, the kernel does not.
		e.paths[i] = dir + string(filepath.Separator) + path
	}
	return nil
}

func (e *eyes) events() <-chan fsnotify.Event { return e.fs.Events }
func (e *eyes) lost() <-chan error            { return e.failed }

// concerns goes by the last name alone: fsnotify reports a directory that has
// two paths under either, and a directory's own end under its own path.
func (e *eyes) concerns(ev fsnotify.Event) bool {
	name := filepath.Base(ev.Name)
	return slices.ContainsFunc(e.ways, func(w way) bool { return w.names[name] })
}

func (e *eyes) close() {
	_ = e.fs.Close() // closes the descriptor of inotify; there is nothing to save
	e.pump.Wait()
}

// follow watches the ways to the files and checks that they are still the same
// afterwards, for a link that moved just before its watch was set has no event.
func (e *eyes) follow() error {
	var err error
	for range 5 { // a way that changes faster has events that bring the next look
		ways := e.find()
		err = e.watch(ways)
		if err == nil && slices.EqualFunc(e.find(), ways, way.equal) {
			break
		}
	}
	return err
}

func (e *eyes) find() []way {
	ways := make([]way, len(e.paths))
	for i, path := range e.paths {
		ways[i] = findWay(path)
	}
	return ways
}

// watch replaces the watches by those of ways. All that are wanted are added
// again, for a directory that was replaced has taken its watch with it, and
// the kernel knows by itself which ones it already has.
func (e *eyes) watch(ways []way) error {
	files := make(map[string]os.FileInfo)
	var dirs, parents []string
	for _, w := range ways {
		if info, err := os.Stat(w.file); w.file != "" && err == nil {
			files[w.file] = info
		}
		dirs, parents = append(dirs, w.dirs...), append(parents, w.parents...)
	}
	for file, info := range e.file {
		if now := files[file]; now == nil || !os.SameFile(info, now) {
			// Of a file that was replaced and lives on under another name, adding
			// would leave the old watch in the kernel, one for each edit.
			e.drop(file)
		}
	}
	for _, w := range e.ways {
		for _, dir := range slices.Concat(w.dirs, w.parents) {
			if !slices.Contains(dirs, dir) && !slices.Contains(parents, dir) {
				e.drop(dir)
			}
		}
	}
	e.ways, e.file = ways, files

	var errs []error
	for _, dir := range dirs {
		if err := e.fs.Add(dir); err != nil {
			errs = append(errs, fmt.Errorf("watch directory %s: %w", dir, nameLimit(err)))
		}
	}
	for _, dir := range parents {
		_ = e.fs.Add(dir) // often not ours to read, seldom changed, and polled
	}
	// Where only the file is mounted, its directory has no event for a write.
	// A file that is gone or not ours to read is the reader's to complain of.
	for file := range files {
		err := e.fs.Add(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, fmt.Errorf("watch file %s: %w", file, nameLimit(err)))
		}
	}
	return errors.Join(errs...)
}

// drop ends a watch if there is one. The kernel ends many by itself.
func (e *eyes) drop(path string) { _ = e.fs.Remove(path) }

// A way is how a path leads to a file: by these names through these
// directories, all of them real paths without symbolic links.
type way struct {
	names   map[string]bool
	dirs    []string // hold the file, a link that leads to it, or the lack of either
	parents []string // only hold the next directory
	file    string   // the real path; "" if the way ends before
}

func (w way) equal(o way) bool {
	return w.file == o.file && slices.Equal(w.dirs, o.dirs) &&
		slices.Equal(w.parents, o.parents) && maps.Equal(w.names, o.names)
}

// findWay goes from the root as the kernel would, one name after the other.
func findWay(path string) way {
	const maxLinks = 40 // as in the kernel; more are a loop
	w := way{names: map[string]bool{}}
	dir, rest := root(path), split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			dir = filepath.Dir(dir)
			continue
		}
		w.names[name] = true
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			w.dirs = include(w.dirs, dir)
			return w
		case info.Mode()&fs.ModeSymlink != 0:
			w.dirs = include(w.dirs, dir)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return w
			}
			if filepath.IsAbs(target) {
				dir = root(target)
			}
			rest = append(split(target), rest...)
		case info.IsDir() && len(rest) > 0:
			// Elsewhere a watch opens every file of its directory.
			if runtime.GOOS == "linux" {
				w.parents = include(w.parents, dir)
			}
			dir = next
		default:
			w.dirs = include(w.dirs, dir)
			dir = next
		}
	}
	w.file = dir
	return w
}

func root(path string) string {
	return filepath.VolumeName(path) + string(filepath.Separator)
}

// split cuts a path into its names.
func split(path string) []string {
	path = path[len(filepath.VolumeName(path)):]
	return slices.DeleteFunc(strings.Split(path, string(filepath.Separator)), func(name string) bool {
		return name == "" || name == "."
	})
}

func include(dirs []string, dir string) []string {
	if slices.Contains(dirs, dir) {
		return dirs
	}
	return append(dirs, dir)
}
