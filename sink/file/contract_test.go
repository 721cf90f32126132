package file

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"testing"

	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/sinktest"
)

func TestContract(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		format sink.Format
		change func(*sink.FileSpec)
	}{
		"raw":           {"out.log", sink.Raw, func(*sink.FileSpec) {}},
		"json":          {"out.json", sink.JSON, func(*sink.FileSpec) {}},
		"at least once": {"out.log", sink.Raw, func(f *sink.FileSpec) { f.Delivery = sink.AtLeastOnce }},
		"gzip":          {"out.log", sink.Raw, func(f *sink.FileSpec) { f.Compression = sink.Gzip }},
		"zstd":          {"out.json", sink.JSON, func(f *sink.FileSpec) { f.Compression = sink.Zstd }},
		"rotated":       {"out.log", sink.Raw, func(f *sink.FileSpec) { f.Rotate = &sink.Rotate{Size: 2000} }},
		"per partition": {"{topic}/{partition}.log", sink.Raw, func(*sink.FileSpec) {}},
		"by time":       {"{topic}/{time:2006/01/02}.log", sink.Raw, func(*sink.FileSpec) {}},
		"per topic":     {"a/b/{topic}.json", sink.JSON, func(*sink.FileSpec) {}},
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.TestContract(t, func(t *testing.T) *sinktest.Target {
				dir := t.TempDir()
				spec := sink.FileSpec{Path: filepath.Join(dir, c.path), Format: c.format, Delivery: sink.ExactlyOnce, Mode: 0o640}
				c.change(&spec)
				return fileTarget(dir, spec)
			})
		})
	}
}

// fileTarget returns a target that writes below dir.
func fileTarget(dir string, spec sink.FileSpec) *sinktest.Target {
	fsys := disktest.NewFaultFS()
	changed, bad := spec, spec
	changed.Durability, changed.Mode, bad.Format = sink.None, 0o600, "xml"
	return &sinktest.Target{
		Spec: sink.Spec{File: &spec}, Changed: sink.Spec{File: &changed}, BadFormat: sink.Spec{File: &bad},
		Other:   sink.Spec{Stdout: &sink.StdoutSpec{Format: sink.Raw}},
		Buffers: spec.Compression != "",
		Open: func(ctx context.Context, spec sink.Spec) (sink.Sink, error) {
			return openWith(ctx, spec, testOptions{FS: fsys})
		},
		SetFault: func(f func() error) { fsys.SetFault(onlyWrites(f)) },
		Values: func(t *testing.T) []string {
			var all []string
			walk := func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || isCheckpoint(p) {
					return err
				}
				data := []byte(readFile(t, p))
				c, err := compress.Sniff(bytes.NewReader(data))
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
