package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
	"kcagent/sink/sinkio"
)

// Check reports why a sink could not be opened. It opens, locks and creates nothing, so a
// file that another agent writes now is not an error. A path with placeholders is checked as
// far as its folders are known.
func Check(spec sink.FileSpec) error {
	path := spec.Path
	if head, _, open := strings.Cut(path, "{"); open {
		path = filepath.Join(filepath.Dir(head+"x"), "x")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 && spec.Rotate != nil {
		return writer.LinkError(path)
	}
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("open %s: not a regular file", path)
	case err == nil:
		return writable(path)
	case !errors.Is(err, fs.ErrNotExist):
		return sinkio.OpError("open", path, err)
	}
	// The first existing folder above the file must be writable, so that the rest can be
	// created.
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("create folder for %s: %s is not a folder", path, dir)
		case err == nil && disk.Virtual(dir):
			return fmt.Errorf("create folder for %s: no files can be created in %s, which is a view of the kernel", path, dir)
		case err == nil:
			return writable(dir)
		case !errors.Is(err, fs.ErrNotExist):
			return sinkio.OpError("create folder for", path, err)
		}
	}
}

func writable(path string) error {
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// CheckFree reports that another process writes the file of a sink now. mine are the sinks
// of this process, under any name.
//
// It tests the lock with a shared lock of its own, for an instant. A writer that opens the
// file at that moment fails once, and tries again.
func CheckFree(spec sink.FileSpec, mine []sink.FileSpec) error {
	if filename.HasPlaceholders(spec.Path) {
		return nil
	}
	path, err := disk.OS{}.Resolve(spec.Path)
	if err != nil {
		return sinkio.OpError("open", spec.Path, err)
	}
	f, err := os.OpenFile(path+filename.CheckpointSuffix, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was never opened
	}
	if err != nil {
		return sinkio.OpError("open", path+filename.CheckpointSuffix, err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return nil
	}
	held, err := f.Stat()
	if err != nil {
		return sinkio.OpError("stat", path+filename.CheckpointSuffix, err)
	}
	for _, m := range mine {
		own, err := disk.OS{}.Resolve(m.Path)
		if err != nil {
			continue
		}
		if info, err := os.Stat(own + filename.CheckpointSuffix); err == nil && os.SameFile(info, held) {
			return nil
		}
	}
	return sinkio.OpError("open", spec.Path, disk.ErrLocked)
}
