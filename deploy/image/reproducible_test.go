package image

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestBinaryIsReproducible: a build in another folder, with other settings of the go command,
// gives the same binary.
func TestBinaryIsReproducible(t *testing.T) {
	_, options := built(t)
	t.Setenv("GOFLAGS", "-tags=other")
	out := filepath.Join(t.TempDir(), "kcagent")
	if err := Binary(t.Context(), elsewhere(t, source), "arm64", testVersion, out); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(options.Binaries["arm64"])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("binaries of %d and %d bytes differ, %v", len(want), len(got), err)
	}
}

// elsewhere returns another path of a folder.
func elsewhere(t *testing.T, dir string) string {
	t.Helper()
	root, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// TestImageIsReproducible: a build in another folder gives the same digest and the same
// archives. A small program stands for kcagent, because the race detector makes the
// compression slow.
func TestImageIsReproducible(t *testing.T) {
	t.Parallel()
	code := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module kcagent\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(code, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := build(t.TempDir(), code, source)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := build(t.TempDir(), elsewhere(t, code), elsewhere(t, source))
	if err != nil {
		t.Fatal(err)
	}
	want, err := first.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.index.Digest(); err != nil || got != want {
		t.Errorf("digests %s and %s, %v", want, got, err)
	}
	for _, write := range []func(*Image, string) error{
		(*Image).WriteArchive,
		func(i *Image, out string) error { return i.WriteDocker(out, "arm64") },
	} {
		var archives [2][]byte
		for i, image := range []*Image{first, second} {
			out := filepath.Join(t.TempDir(), "archive")
			if err := write(image, out); err != nil {
				t.Fatal(err)
			}
			if archives[i], err = os.ReadFile(out); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(archives[0], archives[1]) {
			t.Errorf("archives of %d and %d bytes differ", len(archives[0]), len(archives[1]))
		}
	}
}
