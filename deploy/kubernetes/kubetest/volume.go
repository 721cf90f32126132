package kubetest

import (
	"os"
	"path/filepath"
	"testing"
)

// Project writes files into the folder dir as the kubelet does with a ConfigMap or Secret: the
// files of a version are in a folder of their own, the link ..data leads to it and is replaced
// by one rename, and the former folder is removed.
func Project(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	version, err := os.MkdirTemp(dir, "..version")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(version, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(version, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := os.Readlink(filepath.Join(dir, "..data")) // fails for the first version
	Relink(t, dir, "..data_tmp", "..data", filepath.Base(version))
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if before != "" {
		if err := os.RemoveAll(filepath.Join(dir, before)); err != nil {
			t.Fatal(err)
		}
	}
}

// Relink lets the link in the folder dir lead to target, by renaming the link temporary.
func Relink(t testing.TB, dir, temporary, link, target string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(dir, temporary)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, temporary), filepath.Join(dir, link)); err != nil {
		t.Fatal(err)
	}
}
