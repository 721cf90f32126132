package sink

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(path, want string) {
		t.Helper()
		err := Check(Spec{File: &FileSpec{Path: path}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("Check(%s) = %v, want %q", path, err, want)
		}
	}
	f(file, "")
	f(filepath.Join(dir, "new"), "")
	f(filepath.Join(dir, "a", "b", "new"), "")
	f(filepath.Join(dir, "{topic}", "{partition}.log"), "")
	f(dir, "not a regular file")
	f(filepath.Join(file, "below"), "not a")
	f(filepath.Join(file, "a", "{topic}"), "not a")
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("Check made something: %v", entries)
	}
	if err := Check(Spec{Stdout: &StdoutSpec{}}); err != nil {
		t.Error(err)
	}
}
