package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Check reports why the sink could not be opened, without opening, locking or
// making anything: a file that another agent writes now is no error. A path
// with placeholders is checked as far as its folders are known.
func Check(s Spec) error {
	if s.File == nil {
		return nil
	}
	path := s.File.Path
	if head, _, open := strings.Cut(path, "{"); open {
		path = filepath.Join(filepath.Dir(head+"x"), "x")
	}
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("open %s: not a regular file", path)
	case err == nil:
		return writable(path)
	case !errors.Is(err, fs.ErrNotExist):
		return fault("open", path, err)
	}
	// The first folder above it that is there must let us make the rest.
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("make folder for %s: %s is not a folder", path, dir)
		case err == nil:
			return writable(dir)
		case !errors.Is(err, fs.ErrNotExist):
			return fault("make folder for", path, err)
		}
	}
}

func writable(path string) error {
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
