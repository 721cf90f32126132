package sink

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"testing"
)

func TestFileSinkKeepsTheContract(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		format Format
		change func(*FileSpec)
	}{
		"raw":           {"out.log", Raw, func(*FileSpec) {}},
		"json":          {"out.json", JSON, func(*FileSpec) {}},
		"at least once": {"out.log", Raw, func(f *FileSpec) { f.Delivery = AtLeastOnce }},
		"gzip":          {"out.log", Raw, func(f *FileSpec) { f.Compression = Gzip }},
		"zstd":          {"out.json", JSON, func(f *FileSpec) { f.Compression = Zstd }},
		"rotated":       {"out.log", Raw, func(f *FileSpec) { f.Rotate = &Rotate{Size: 2000} }},
		"per partition": {"{topic}/{partition}.log", Raw, func(*FileSpec) {}},
		"per topic":     {"a/b/{topic}.json", JSON, func(*FileSpec) {}},
	} {
		t.Run(name, func(t *testing.T) {
			TestContract(t, func(t *testing.T) *Target {
				dir := t.TempDir()
				spec := FileSpec{Path: filepath.Join(dir, c.path), Format: c.format, Delivery: ExactlyOnce, Mode: 0o640}
				c.change(&spec)
				return fileTarget(dir, spec)
			})
		})
	}
}

// fileTarget is a sink that writes below dir.
func fileTarget(dir string, spec FileSpec) *Target {
	fsys := newFaultFS()
	changed, bad := spec, spec
	changed.Durability, changed.Mode, bad.Format = None, 0o600, "xml"
	return &Target{
		Spec: Spec{File: &spec}, Changed: Spec{File: &changed}, BadFormat: Spec{File: &bad},
		Other:   Spec{Stdout: &StdoutSpec{Format: Raw}},
		Buffers: spec.Compression != "",
		Open: func(ctx context.Context, spec Spec) (Sink, error) {
			return openWith(ctx, spec, testOptions{FS: fsys})
		},
		SetFault: func(f func() error) { fsys.set(onlyWrites(f)) },
		Values: func(t *testing.T) []string {
			var all []string
			walk := func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || isSide(p) {
					return err
				}
				data := []byte(readFile(t, p))
				c, err := sniff(bytes.NewReader(data))
				all = append(all, values(t, spec.Format, unpack(t, c, data))...)
				return err
			}
			if err := filepath.WalkDir(dir, walk); err != nil {
				t.Fatal(err)
			}
			return all
		},
	}
}

func onlyWrites(f func() error) func(op, name string) error {
	return func(op, _ string) error {
		if op == "write" && f != nil {
			return f()
		}
		return nil
	}
}
