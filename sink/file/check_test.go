package file

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(path, want string) {
		t.Helper()
		err := Check(sink.FileSpec{Path: path})
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
	if runtime.GOOS == "linux" { // where root may write each folder, by its rights
		f("/proc/new", "no files can be created in /proc")
		f("/sys/a/{topic}", "no files can be created in /sys")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("Check created something: %v", entries)
	}
}

func TestCheckFreeReportsAnotherWriter(t *testing.T) {
	dir := t.TempDir()
	spec := func(path string) sink.Spec {
		return sink.Spec{File: &sink.FileSpec{Path: path, Format: sink.Raw, Delivery: sink.ExactlyOnce, Durability: sink.Fsync}}
	}
	mine, other := spec(filepath.Join(dir, "mine.log")), spec(filepath.Join(dir, "other.log"))
	if err := CheckFree(*other.File, nil); err != nil {
		t.Errorf("a free file is rejected: %v", err)
	}
	for _, s := range []sink.Spec{mine, other} {
		open, err := openWith(t.Context(), s, testOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close(false)
	}
	if err := CheckFree(*other.File, []sink.FileSpec{*mine.File}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("a file that another sink writes: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{mine.File.Path, filepath.Join(link, "mine.log")} {
		if err := CheckFree(*spec(path).File, []sink.FileSpec{*other.File, *mine.File}); err != nil {
			t.Errorf("%s, a file of mine: %v", path, err)
		}
	}
}
