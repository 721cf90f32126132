package filename

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCheckpointed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"x.log+checkpoint", "x.log", "y.log", "a-0.log+checkpoint", "a-1.log+checkpoint", "a.b-2.log+checkpoint", "a-x.log+checkpoint",
		"a-0.json+checkpoint", "a/0.log+checkpoint", "b/0.log+checkpoint", "b/c/0.log+checkpoint", "b/b/0.log+checkpoint", "f/f-7.log+checkpoint", "f/g-7.log+checkpoint",
		"a-0.log+next", "a+20261123T171500.123Z-0.log+checkpoint",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var f Finder // one for all, as for the consumers of a file
	check := func(path string, topics []string, want ...string) {
		t.Helper()
		onlyA := func(topic string) bool { return strings.HasPrefix(topic, "a") }
		if topics != nil {
			onlyA = func(string) bool { t.Error("the function is called for known topics"); return false }
		}
		got := f.Checkpointed(filepath.Join(dir, path), topics, onlyA, 100)
		for i := range got {
			got[i], _ = filepath.Rel(dir, got[i])
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s of %q: %q, want %q", path, topics, got, want)
		}
	}
	check("x.log", nil, "x.log")
	check("y.log", nil)
	check("nowhere/y.log", nil)
	check("nowhere/{topic}.log", nil)
	check("{topic}-{partition}.log", nil, "a-0.log", "a-1.log", "a.b-2.log")
	check("{topic}-{partition}.log", []string{"a"}, "a-0.log", "a-1.log")
	check("{topic}-0.log", []string{"a", "b"}, "a-0.log")
	check("{topic}/{partition}.log", nil, "a/0.log")
	check("{topic}/{partition}.log", []string{"b", "c"}, "b/0.log")
	check("{topic}/{topic}/{partition}.log", []string{"b"}, "b/b/0.log")
	check("{topic}/{topic}-{partition}.log", []string{"f"}, "f/f-7.log")
	check("b/{topic}/{partition}.log", []string{"b", "c"}, "b/b/0.log", "b/c/0.log")
	check("x.log/{topic}", nil)

	if got := f.Checkpointed(filepath.Join(dir, "{topic}-{partition}.log"), nil, func(string) bool { return true }, 2); len(got) != 2 {
		t.Errorf("%d files, want at most 2", len(got))
	}
	t.Chdir(dir)
	if got := new(Finder).Checkpointed("{topic}/{partition}.log", nil, nil, 100); !slices.Equal(got, []string{"a/0.log", "b/0.log"}) {
		t.Errorf("of a relative path: %q", got)
	}
}

// TestFinderIsBounded: a folder with very many files does not delay a command, and
// is listed once for all consumers.
func TestFinderIsBounded(t *testing.T) {
	names := make([]string, 0, 2*maxCompared)
	for i := range cap(names) {
		names = append(names, fmt.Sprintf("f%07d", i))
	}
	f := Finder{folders: map[string][]string{"/d": names}}
	for range 1000 {
		if got := f.Checkpointed("/d/{topic}", nil, nil, 100); len(got) > 0 {
			t.Fatalf("found %q", got)
		}
	}
	if f.compared > maxCompared {
		t.Errorf("%d names were compared, want at most %d", f.compared, maxCompared)
	}
}
