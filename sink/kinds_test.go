package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bench is one sink under test with what the tests need to see and to break.
type bench struct {
	spec   Spec
	open   func(t *testing.T) Sink
	values func(t *testing.T) []string // the values of all records in the sink, in its order
	fault  func(func() error)          // asked before each system call that writes
	late   bool                        // an accepted record need not be written yet
}

var kinds = []struct {
	name string
	make func(t *testing.T) *bench
}{
	{"file raw", func(t *testing.T) *bench { return fileBench(t, "out.log", Raw) }},
	{"file json", func(t *testing.T) *bench { return fileBench(t, "out.json", JSON) }},
	{"file at least once", func(t *testing.T) *bench {
		return fileBench(t, "out.log", Raw).with(func(f *FileSpec) { f.Delivery = AtLeastOnce })
	}},
	{"file gzip", func(t *testing.T) *bench {
		return fileBench(t, "out.log", Raw).with(func(f *FileSpec) { f.Compression = Gzip })
	}},
	{"file zstd", func(t *testing.T) *bench {
		return fileBench(t, "out.json", JSON).with(func(f *FileSpec) { f.Compression = Zstd })
	}},
	{"file rotated", func(t *testing.T) *bench {
		return fileBench(t, "out.log", Raw).with(func(f *FileSpec) { f.Rotate = &Rotate{Size: 2000} })
	}},
	{"file per partition", func(t *testing.T) *bench { return fileBench(t, "{topic}/{partition}.log", Raw) }},
	{"file per topic", func(t *testing.T) *bench { return fileBench(t, "a/b/{topic}.json", JSON) }},
	{"stdout raw", func(t *testing.T) *bench { return stdoutBench(t, Raw) }},
	{"stdout json", func(t *testing.T) *bench { return stdoutBench(t, JSON) }},
}

func fileBench(t *testing.T, path string, format Format) *bench {
	dir, fsys := t.TempDir(), newFaultFS()
	b := &bench{spec: Spec{File: &FileSpec{Path: filepath.Join(dir, path), Format: format, Delivery: ExactlyOnce, Mode: 0o640}}}
	b.open = func(t *testing.T) Sink { return mustOpen(t, b.spec, fsys) }
	b.fault = func(f func() error) { fsys.set(onlyWrites(f)) }
	b.values = func(t *testing.T) []string {
		var all []string
		walk := func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || isSide(p) {
				return err
			}
			data := []byte(readFile(t, p))
			c, err := sniff(bytes.NewReader(data))
			all = append(all, values(t, format, unpack(t, c, data))...)
			return err
		}
		if err := filepath.WalkDir(dir, walk); err != nil {
			t.Fatal(err)
		}
		return all
	}
	return b
}

// with changes the spec.
func (b *bench) with(change func(*FileSpec)) *bench {
	change(b.spec.File)
	b.late = compression(b.spec.File) != Uncompressed
	return b
}

func onlyWrites(f func() error) func(op, name string) error {
	return func(op, _ string) error {
		if op == "write" && f != nil {
			return f()
		}
		return nil
	}
}

// A pipe is the reader's end of standard output.
type pipe struct {
	mu    sync.Mutex
	data  bytes.Buffer
	fault func() error
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault != nil {
		if err := fault(); err != nil {
			return 0, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data.Write(b)
}

func stdoutBench(_ *testing.T, format Format) *bench {
	p := new(pipe)
	out := &output{w: p, turn: newTurn()}
	b := &bench{spec: Spec{Stdout: &StdoutSpec{Format: format}}}
	b.open = func(t *testing.T) Sink {
		s, err := newStdout(*b.spec.Stdout, out)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	b.fault = func(f func() error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fault = f
	}
	b.values = func(t *testing.T) []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return values(t, format, p.data.String())
	}
	return b
}

func mustOpen(t *testing.T, spec Spec, fsys FS) Sink {
	t.Helper()
	s, err := Open(t.Context(), spec, Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// values reads what records a sink holds from its bytes, which must be whole
// lines.
func values(t *testing.T, format Format, content string) []string {
	t.Helper()
	if content == "" {
		return nil
	}
	if !strings.HasSuffix(content, "\n") {
		t.Errorf("torn last line: %q", content[strings.LastIndex(content, "\n")+1:])
	}
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	if format == Raw {
		return lines
	}
	for i, line := range lines {
		var envelope struct{ Value string }
		if err := json.Unmarshal([]byte(line), &envelope); err != nil {
			t.Fatalf("line %d: %v: %q", i+1, err, line)
		}
		lines[i] = envelope.Value
	}
	return lines
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// records makes n records of a partition; their values say which they are.
func records(partition int32, from, n int) []Record {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{
			Topic: "orders", Partition: partition, Offset: int64(from + i),
			Time: time.UnixMilli(1700000000000), Value: []byte(value(partition, from+i)),
		}
	}
	return recs
}

func value(partition int32, offset int) string { return fmt.Sprintf("p%d-%06d", partition, offset) }

// want lists the values that records makes.
func want(partition int32, from, n int) []string {
	var vs []string
	for i := range n {
		vs = append(vs, value(partition, from+i))
	}
	return vs
}

func ofPartition(vs []string, partition int32) []string {
	prefix := fmt.Sprintf("p%d-", partition)
	return slices.DeleteFunc(slices.Clone(vs), func(v string) bool { return !strings.HasPrefix(v, prefix) })
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Fatalf("%d lines, want %d; the first %d are equal, then\n got %.5q\nwant %.5q", len(got), len(want), i, got[i:], want[i:])
}
