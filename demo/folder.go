package demo

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file that a running demo locks, so that no other demo uses its folder. It
// says which demo that is.
const lockName = ".demo.lock"

// CheckFolder returns an error if another demo runs in the folder. It changes nothing, and
// the folder need not exist.
func CheckFolder(dir string) error {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return nil // Run reports what prevents it from using the folder
	}
	defer f.Close() // unlocks it
	return lock(f, dir)
}

// lockFolder locks the folder until the returned file is closed, and notes the page of the
// demo for others.
func lockFolder(dir, page string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock folder of the demo: %w", err)
	}
	err = lock(f, dir)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = fmt.Fprintf(f, "pid %d, page %s\n", os.Getpid(), page)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// lock locks a file. Its error names the demo that holds the lock.
func lock(f *os.File, dir string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		who, _ := io.ReadAll(io.LimitReader(f, 200))
		return fmt.Errorf("run demo in %s: another demo runs there (%s); end it, or choose another folder with --dir", dir, strings.TrimSpace(string(who)))
	}
	if err != nil {
		return fmt.Errorf("lock folder of the demo: %w", err)
	}
	return nil
}

// setAside renames the folder with the data of an earlier demo, and returns its new path; ""
// if there is no data. The broker of that demo and its offsets are gone, so this demo must
// neither continue its files nor count its records.
func setAside(data string) (string, error) {
	entries, err := os.ReadDir(data)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the data of an earlier demo: %w", err)
	}
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s-%d", data, n)
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		if err := os.Rename(data, aside); err != nil {
			return "", fmt.Errorf("move the data of an earlier demo: %w", err)
		}
		return aside, nil
	}
}
