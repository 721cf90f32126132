//go:build !linux

package disk

import (
	"errors"
	"os"
	"syscall"
)

func (f *osFile) datasync() error { return f.call("fsync", syscall.Fsync) }

type syncer struct{}

func reserve(int, int64, int64) error { return errors.ErrUnsupported }

func birthTime(int) (int64, error) { return 0, errors.ErrUnsupported }

// Virtual reports whether a path is on a file system of the kernel. It is unknown here.
func Virtual(string) bool { return false }

func renameNoReplace(from, to string) error { return errors.ErrUnsupported }

func listFolder(dir string, each func(name string, inode uint64) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !each(e.Name(), Inode(info)) {
			return nil
		}
	}
	return nil
}
