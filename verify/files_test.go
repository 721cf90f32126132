package verify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder creates a folder with empty files.
func folder(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestArgumentsNameFilesFoldersAndPatterns(t *testing.T) {
	dir := folder(t, "a.jsonl", "a.jsonl+checkpoint", "a+20261127T180000.000Z.jsonl", "orders/0.jsonl", "orders/0.jsonl+checkpoint", "empty/x+checkpoint", "[b].jsonl", "objects/1.jsonl", "objects/.kcagent/1.jsonl+X.json")
	if err := os.Symlink(filepath.Join(dir, "orders"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, want []string
		err        string
	}{
		{[]string{"a.jsonl", "[b].jsonl"}, []string{"a.jsonl", "[b].jsonl"}, ""}, // a file, not a pattern
		{[]string{"link"}, []string{"link/0.jsonl"}, ""},
		{[]string{"."}, []string{"[b].jsonl", "a+20261127T180000.000Z.jsonl", "a.jsonl", "objects/1.jsonl", "orders/0.jsonl"}, ""},
		{[]string{"orders", "a.jsonl"}, []string{"orders/0.jsonl", "a.jsonl"}, ""},
		{[]string{"a*"}, []string{"a+20261127T180000.000Z.jsonl", "a.jsonl"}, ""},
		{[]string{"*s/0.*"}, []string{"orders/0.jsonl"}, ""},
		{[]string{"a.jsonl", "none"}, nil, "/none: no such file"},
		{[]string{"z*"}, nil, "no file matches"},
		{[]string{"["}, nil, "invalid pattern"},
		{[]string{"empty"}, nil, "the folder has no files"},
	} {
		var args []string
		for _, a := range tt.args {
			args = append(args, filepath.Join(dir, a))
		}
		files, err := Files(args)
		var got []string
		for _, f := range files {
			name, _ := filepath.Rel(dir, f)
			got = append(got, name)
		}
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v names %v, %v; want %v, %q", tt.args, got, err, tt.want, tt.err)
		}
	}
}

func TestSameFileIsFound(t *testing.T) {
	dir := folder(t, "a", "b")
	a, b, link, hard := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "link"), filepath.Join(dir, "hard")
	if err := os.Symlink(a, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(b, hard); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		files         []string
		first, second string
	}{
		{[]string{a, b}, "", ""},
		{[]string{a, b, a}, a, a},
		{[]string{link, a}, link, a},
		{[]string{a, b, hard}, b, hard},
		{[]string{"/dev/null", "/dev/null", "none", "none"}, "", ""},
	} {
		if first, second := Same(tt.files); first != tt.first || second != tt.second {
			t.Errorf("%v: %q and %q", tt.files, first, second)
		}
	}
}
