package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/objects/folder"
	"kcagent/sink/objects/store"
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

// newest is how many objects the report names.
const newest = 3

// reportObjects prints how many objects the folder has, the newest ones, how to read one, and how to
// prove that no record is missing or repeated. It prints nothing without objects.
func reportObjects(w io.Writer, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find the objects of the demo: %w", err)
	}
	s, err := folder.Open(context.Background(), &sink.ObjectsSpec{URL: "file://" + dir})
	if err != nil {
		return err
	}
	var all []store.Object
	var size int64
	for o, err := range s.List(context.Background(), "") {
		if err != nil {
			return err
		}
		all = append(all, o)
		size += o.Size
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b store.Object) int { return b.Modified.Compare(a.Modified) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d objects with %d bytes, the newest ones:\n", dir, len(all), size)
	for _, o := range all[:min(newest, len(all))] {
		fmt.Fprintf(&b, "  %s\n", filepath.Join(dir, o.Key))
	}
	if key := all[0].Key; filepath.Ext(key) == ".gz" {
		fmt.Fprintf(&b, "Read one: zcat %s | head -3\n", filepath.Join(dir, key))
	}
	fmt.Fprintf(&b, "Proof that no record is missing or repeated: kcagent verify file://%s\n", dir)
	_, err = io.WriteString(w, b.String())
	return err
}
