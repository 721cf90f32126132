package folder

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"kcagent/sink/objects/store"
	"kcagent/sink/sinkio"
)

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.create(); err != nil {
		return err
	}
	return s.in(ctx, "write", key, func(root *os.Root) error {
		if _, err := regular(root, key); err == nil {
			return store.ErrExists
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if info, err := root.Lstat(key); err == nil && info.IsDir() {
			return syscall.EISDIR // objects of other keys may be in it
		}
		if err := makeFolders(root, path.Join(path.Dir(key), hidden)); err != nil {
			return err
		}
		id := rand.Text()
		visible, err := upload(ctx, root, key, id, io.NewSectionReader(body, 0, size), size, a)
		switch {
		case err == nil:
			return removeLeftovers(root, key)
		case visible: // whether it is durable is unknown; Head syncs it again
			return err
		}
		removeUpload(root, key, id)
		// Another upload of the key that became visible has removed the files of this one.
		if _, found := regular(root, key); found == nil {
			return store.ErrExists
		}
		return err
	})
}

// upload writes the object under a name of its own, and makes it visible at the end.
func upload(ctx context.Context, root *os.Root, key, id string, body io.Reader, size int64, a store.Attributes) (visible bool, err error) {
	part := partName(key, id)
	info, err := writeFile(root, part, func(f *os.File) error {
		n, err := io.Copy(struct{ io.Writer }{f}, sinkio.ContextReader(ctx, body))
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return false, err
	}
	side, err := json.Marshal(newSidecar(a, info))
	if err != nil {
		return false, err
	}
	if _, err := writeFile(root, sidecarName(key, id), func(f *os.File) error {
		_, err := sinkio.WriteAll(f, side)
		return err
	}); err != nil {
		return false, err
	}
	if err := syncFolders(root, path.Dir(part)); err != nil {
		return false, err
	}
	if err := link(root, part, key); err != nil {
		return false, err
	}
	return true, syncFolder(root, path.Dir(key))
}

// link makes the file from visible as to, unless to exists already.
func link(root *os.Root, from, to string) error {
	err := root.Link(from, to)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) {
		// The file system, such as FAT, has no links. Another agent could create the file
		// between these two calls.
		if _, err := root.Lstat(to); err == nil {
			return store.ErrExists
		}
		return root.Rename(from, to)
	}
	if errors.Is(err, fs.ErrExist) {
		return store.ErrExists
	}
	return err
}

// writeFile creates a file, and syncs and describes it after write.
func writeFile(root *os.Root, name string, write func(*os.File) error) (info fs.FileInfo, err error) {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	return info, errors.Join(err, f.Close())
}

// create creates the folder of the store, durably.
func (s *Store) create() error {
	if _, err := os.Stat(s.dir); err == nil {
		return nil
	}
	root, err := os.OpenRoot("/")
	if err != nil {
		return s.wrap("create folder", "", err)
	}
	defer root.Close()
	return s.wrap("create folder", "", makeFolders(root, s.dir[1:]))
}

// makeFolders creates a folder and those above it, durably.
func makeFolders(root *os.Root, dir string) error {
	if info, err := root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := path.Dir(dir); parent != "." {
		if err := makeFolders(root, parent); err != nil {
			return err
		}
	}
	err := root.Mkdir(dir, folderMode)
	if errors.Is(err, fs.ErrExist) {
		if info, err := root.Stat(dir); err != nil || !info.IsDir() {
			return syscall.ENOTDIR
		}
		return nil // another upload has created it
	}
	if err != nil {
		return err
	}
	return syncFolder(root, path.Dir(dir))
}

// syncFolders makes the entries of a folder and of those above it durable. Another process may
// have created them and crashed before it synced them.
func syncFolders(root *os.Root, dir string) error {
	for {
		if err := syncFolder(root, dir); err != nil || dir == "." {
			return err
		}
		dir = path.Dir(dir)
	}
}

// syncFolder makes the entries of a folder durable.
func syncFolder(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // the file system cannot sync folders
	}
	return errors.Join(err, d.Close())
}

// isFileInTheWay reports whether an element of a path is a file instead of a folder.
func isFileInTheWay(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
