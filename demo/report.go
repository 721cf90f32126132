package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kcagent/sink/file/filename"
)

// report prints how many lines each file below dir has, and how to prove that none is
// missing or repeated.
func report(w io.Writer, dir string) error {
	var b strings.Builder
	json := false
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filename.IsCheckpoint(path) {
			return err
		}
		switch filepath.Ext(path) {
		case ".gz", ".zst":
			fmt.Fprintf(&b, "%s: compressed\n", path)
			return nil
		case ".jsonl":
			json = true
		}
		n, err := lines(path)
		fmt.Fprintf(&b, "%s: %d records in this demo\n", path, n)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("count the records of the demo: %w", err)
	}
	if json {
		fmt.Fprintf(&b, "Proof that no record is missing or repeated: kcagent verify %s\n", filepath.Join(dir, "payments*.jsonl"))
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// lines counts the newlines of a file.
func lines(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, buf := 0, make([]byte, 64<<10)
	for {
		got, err := f.Read(buf)
		n += bytes.Count(buf[:got], []byte("\n"))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
