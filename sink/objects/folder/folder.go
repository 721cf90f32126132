// Package folder keeps objects in a folder: key a/b is the file b in the subfolder a.
//
// A file appears under its key whole: it is written under another name, synced and then linked,
// and a link never replaces a file.
//
// The attributes of an object are in a second file, the sidecar, because extended attributes do
// not exist on NFS before version 4.2 and on tmpfs before Linux 6.6, and most copies lose them.
// Sidecars and unfinished uploads are in .kcagent, a hidden folder beside the objects, which List
// leaves out. So a program that reads *.jsonl, or all files that are not hidden, finds objects
// only, and a subfolder that is moved or copied keeps its sidecars.
//
// A sidecar is durable before its object is visible. Each upload has a sidecar of its own, which
// names inode, size and time of the file. If two agents upload the same key, the sidecar of the
// one that failed can therefore not describe the object of the other.
//
// A symbolic link that leads out of the folder is an error. The folder and its subfolders are
// created when they are needed.
package folder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/sinkio"
)

// hidden is the folder for sidecars and unfinished uploads.
const hidden = ".kcagent"

const (
	fileMode   = 0o640 // as the file sink
	folderMode = 0o750
)

// Store is a folder of this host.
type Store struct {
	dir string
}

var _ store.Store = (*Store)(nil)

// Open returns the folder that the URL names, as in file:///dir/prefix. Percent signs have no
// meaning. It does not look at the disk.
func Open(_ context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
	s, err := open(spec)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func open(spec *sink.ObjectsSpec) (*Store, error) {
	dir, ok := strings.CutPrefix(spec.URL, "file://")
	if !ok || !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("invalid url %q: use file:// and an absolute path, such as file:///var/lib/objects", spec.URL)
	}
	return &Store{dir: filepath.Clean(dir)}, nil
}

// Close does nothing.
func (s *Store) Close() {}

// Head implements [store.Store]. It syncs the folders of the object first: an agent that crashed
// may have made it visible without that, and the caller relies on what Head returns.
func (s *Store) Head(ctx context.Context, key string) (o store.Object, err error) {
	err = s.in(ctx, "stat", key, func(root *os.Root) error {
		info, err := regular(root, key)
		if err != nil {
			return err
		}
		if err := syncFolders(root, path.Dir(key)); err != nil {
			return err
		}
		o = object(key, info)
		o.Attributes, err = readSidecar(root, key, info)
		return err
	})
	return o, err
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string) (r io.ReadCloser, err error) {
	err = s.in(ctx, "open", key, func(root *os.Root) error {
		if _, err := regular(root, key); err != nil {
			return err
		}
		f, err := root.Open(key)
		if err == nil {
			r = f
		}
		return err
	})
	return r, err
}

// Delete implements [store.Store]. It leaves empty subfolders.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := s.in(ctx, "remove", key, func(root *os.Root) error {
		if _, err := regular(root, key); err != nil {
			return err
		}
		err := ignoreMissing(root.Remove(key))
		return errors.Join(err, removeLeftovers(root, key), syncFolder(root, path.Dir(key)))
	})
	return ignoreMissing(err)
}

// AbortUploads implements [store.Store]. It removes what an upload that did not end has left
// under the key; an upload that still runs will fail.
func (s *Store) AbortUploads(ctx context.Context, key string) error {
	return ignoreMissing(s.in(ctx, "abort upload of", key, func(root *os.Root) error {
		return removeLeftovers(root, key)
	}))
}

// List implements [store.Store]. The attributes are missing.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		root, err := os.OpenRoot(s.dir)
		if err == nil {
			defer root.Close()
			w := walk{ctx, root, prefix, yield}
			_, err = w.folder("")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(store.Object{}, s.wrap("list", "", err))
		}
	}
}

type walk struct {
	ctx    context.Context
	root   *os.Root
	prefix string
	yield  func(store.Object, error) bool
}

// folder yields the objects in dir, which is "" or ends with a slash, in the order of their keys.
// It returns false when the caller has enough.
func (w *walk) folder(dir string) (more bool, err error) {
	if err := w.ctx.Err(); err != nil {
		return false, err
	}
	entries, err := fs.ReadDir(w.root.FS(), path.Clean("./"+dir))
	if err != nil {
		return true, ignoreMissing(err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(sortKey(a), sortKey(b)) })
	for _, e := range entries {
		key := dir + sortKey(e)
		switch {
		case e.IsDir() && e.Name() != hidden && (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)):
			more, err = w.folder(key)
		case e.Type().IsRegular() && strings.HasPrefix(key, w.prefix):
			info, infoErr := e.Info()
			if err = ignoreMissing(infoErr); infoErr == nil {
				more = w.yield(object(key, info), nil)
			}
		default:
			continue
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// sortKey is the name of an entry as a part of a key: in the order of keys, the content of
// folder a comes after file a.b.
func sortKey(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// in calls do with the opened folder, and returns its error as the user reads it.
func (s *Store) in(ctx context.Context, op, key string, do func(root *os.Root) error) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err == nil {
		err = do(root)
		_ = root.Close() // holds no data
	}
	return s.wrap(op, key, err)
}

// wrap returns err as the user reads it.
func (s *Store) wrap(op, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, store.ErrExists):
		return store.ErrExists
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s: %w", op, filepath.Join(s.dir, key), store.ErrNotExist)
	}
	if le := (*os.LinkError)(nil); errors.As(err, &le) {
		err = le.Err
	}
	whole := sinkio.OpError(op, filepath.Join(s.dir, key), err)
	if errors.Is(err, fs.ErrPermission) {
		return &store.PermissionError{Permission: "write access to " + s.dir, Err: whole}
	}
	return whole
}

// checkKey reports a key that is not a path below the folder, or that would hide an object.
func checkKey(key string) error {
	if !fs.ValidPath(key) || key == "." {
		return fmt.Errorf("invalid key %q: use a relative path without empty, . and .. elements", key)
	}
	if slices.Contains(strings.Split(key, "/"), hidden) {
		return fmt.Errorf("invalid key %q: %s is reserved", key, hidden)
	}
	return nil
}

// regular returns the object of a key. Anything but a regular file is an error, and an element of
// the key that is a file means that there is no object.
func regular(root *os.Root, key string) (fs.FileInfo, error) {
	info, err := root.Lstat(key)
	switch {
	case err != nil && isFileInTheWay(err):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fs.ErrNotExist
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	return info, nil
}

func object(key string, info fs.FileInfo) store.Object {
	return store.Object{Key: key, Size: info.Size(), Modified: info.ModTime()}
}

// ignoreMissing returns err unless it says that something does not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrNotExist) {
		return nil
	}
	return err
}
