package filewatch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// nameLimit adds the limit that an inotify error is about, but does not name.
func nameLimit(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w: raise fs.inotify.max_user_instances or the limit of open files", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: raise fs.inotify.max_user_watches", err)
	}
	return err
}

// An fsWatcher watches the paths to some files with fsnotify. All share one inotify
// descriptor, because a user may have few of those.
type fsWatcher struct {
	paths    []string // absolute
	notify   *fsnotify.Watcher
	failures chan error
	pump     sync.WaitGroup

	traces []pathTrace            // of paths
	file   map[string]os.FileInfo // by real path: the file that its watch is for
}

// openFSWatcher starts to watch nothing yet; update adds the watches.
func openFSWatcher(paths ...string) (eventSource, error) {
	notify, err := fsnotify.NewBufferedWatcher(256)
	if err != nil {
		return nil, nameLimit(err)
	}
	w := &fsWatcher{notify: notify, failures: make(chan error, 1), file: make(map[string]os.FileInfo)}
	if err := w.setPaths(paths); err != nil {
		return nil, errors.Join(err, notify.Close())
	}
	// fsnotify sends some errors under the lock that Add takes: if the goroutine that
	// calls Add received them too, an error at that moment would block both for ever.
	// One error has the same effect as many.
	w.pump.Go(func() {
		for err := range notify.Errors {
			select {
			case w.failures <- err:
			default:
			}
		}
	})
	return w, nil
}

// setPaths sets which files to watch, from the next update on.
func (w *fsWatcher) setPaths(paths []string) error {
	w.paths = slices.Clone(paths)
	for i, path := range paths {
		if filepath.IsAbs(path) {
			continue
		}
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		// filepath.Abs would take a/link/.. for a; the kernel does not.
		w.paths[i] = dir + string(filepath.Separator) + path
	}
	return nil
}

func (w *fsWatcher) events() <-chan fsnotify.Event { return w.notify.Events }
func (w *fsWatcher) errors() <-chan error          { return w.failures }

// relevant compares the last name alone: fsnotify reports a directory that has two paths
// under either, and the end of a directory under its own path.
func (w *fsWatcher) relevant(ev fsnotify.Event) bool {
	name := filepath.Base(ev.Name)
	return slices.ContainsFunc(w.traces, func(t pathTrace) bool { return t.names[name] })
}

func (w *fsWatcher) close() {
	_ = w.notify.Close() // closes the inotify descriptor; nothing can be lost
	w.pump.Wait()
}

// update watches the paths to the files, and checks that they are still the same
// afterwards: a link that moved just before its watch was added has no event.
func (w *fsWatcher) update() error {
	var err error
	for range 5 { // a path that changes faster has events, which cause the next check
		traces := w.tracePaths()
		err = w.watch(traces)
		if err == nil && slices.EqualFunc(w.tracePaths(), traces, pathTrace.equal) {
			break
		}
	}
	return err
}

func (w *fsWatcher) tracePaths() []pathTrace {
	traces := make([]pathTrace, len(w.paths))
	for i, path := range w.paths {
		traces[i] = tracePath(path)
	}
	return traces
}

// watch replaces the watches by those of the traces. It adds all of them again, because a
// directory that was replaced has taken its watch with it. The kernel knows which watches
// it has.
func (w *fsWatcher) watch(traces []pathTrace) error {
	files := make(map[string]os.FileInfo)
	var dirs, parents []string
	for _, t := range traces {
		if info, err := os.Stat(t.file); t.file != "" && err == nil {
			files[t.file] = info
		}
		dirs, parents = append(dirs, t.dirs...), append(parents, t.parents...)
	}
	w.removeStale(files, dirs, parents)
	w.traces, w.file = traces, files

	var errs []error
	for _, dir := range dirs {
		if err := w.notify.Add(dir); err != nil {
			errs = append(errs, fmt.Errorf("watch directory %s: %w", dir, nameLimit(err)))
		}
	}
	for _, dir := range parents {
		_ = w.notify.Add(dir) // often not readable for us, seldom changed, and polled
	}
	// If a file alone is mounted, its directory has no event for a write. A file that
	// does not exist or is not readable is reported by the read.
	for file := range files {
		err := w.notify.Add(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, fmt.Errorf("watch file %s: %w", file, nameLimit(err)))
		}
	}
	return errors.Join(errs...)
}

// removeStale ends the watches of files that were replaced, and of directories that are
// on no path any more.
func (w *fsWatcher) removeStale(files map[string]os.FileInfo, dirs, parents []string) {
	for file, info := range w.file {
		if now := files[file]; now == nil || !os.SameFile(info, now) {
			// A file that was replaced may live on under another name: to add a watch
			// would leave its old one in the kernel, one for each edit.
			w.remove(file)
		}
	}
	for _, t := range w.traces {
		for _, dir := range slices.Concat(t.dirs, t.parents) {
			if !slices.Contains(dirs, dir) && !slices.Contains(parents, dir) {
				w.remove(dir)
			}
		}
	}
}

// remove ends a watch if there is one. The kernel ends many by itself.
func (w *fsWatcher) remove(path string) { _ = w.notify.Remove(path) }
