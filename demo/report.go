package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"kcagent/sink/file/filename"
)

// sizes returns the sizes of the files below dir, in bytes by path; none if dir does not
// exist.
func sizes(dir string) (map[string]int64, error) {
	found := make(map[string]int64)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			found[path] = info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the data of the demo: %w", err)
	}
	return found, nil
}

// report prints how many lines were added to each file below dir since it had its size in
// before.
func report(w io.Writer, dir string, before map[string]int64) error {
	now, err := sizes(dir)
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if filename.IsCheckpoint(path) {
			continue
		}
		from := before[path]
		if from > now[path] { // another file
			from = 0
		}
		n, err := lines(path, from)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s: %d records in this demo\n", path, n); err != nil {
			return err
		}
	}
	return nil
}

// lines counts the newlines of a file from an offset.
func lines(path string, from int64) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("count records: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, fmt.Errorf("count records: %w", err)
	}
	n, buf := 0, make([]byte, 64<<10)
	for {
		got, err := f.Read(buf)
		n += bytes.Count(buf[:got], []byte("\n"))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("count records: %w", err)
		}
	}
}
