package verify

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func line(topic string, partition, offset int) string {
	return fmt.Sprintf(`{"topic":%q,"partition":%d,"offset":%d,"timestamp":null,"key":null,"value":"v","headers":[]}`+"\n", topic, partition, offset)
}

// run returns the content of a file of partition 0 with these offsets.
func run(offsets ...int) string {
	var b strings.Builder
	for _, o := range offsets {
		b.WriteString(line("t", 0, o))
	}
	return b.String()
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHolesAndRepeatsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  Count
		good  bool
	}{
		{"whole", []string{run(5, 6, 7)}, Count{First: 5, Last: 7, Records: 3}, true},
		{"over two files", []string{run(0, 1), run(2, 3)}, Count{Last: 3, Records: 4}, true},
		{"a repeat", []string{run(0, 1, 1, 2)}, Count{Last: 2, Records: 4, Repeats: 1}, false},
		{"a run again", []string{run(0, 1, 2, 1, 2, 3)}, Count{Last: 3, Records: 6, Repeats: 2}, false},
		{"a hole", []string{run(0, 1, 5, 6)}, Count{Last: 6, Records: 4, Missing: 3}, false},
		{"between two files", []string{run(0), run(2)}, Count{Last: 2, Records: 2, Missing: 1}, false},
		{"late, one by one", []string{run(0, 5, 3, 1, 4, 2)}, Count{Last: 5, Records: 6, Late: 4}, false},
		{"late, in part", []string{run(0, 5, 2)}, Count{Last: 5, Records: 3, Late: 1, Missing: 3}, false},
		{"files in the wrong order", []string{run(4, 5), run(0, 1)}, Count{Last: 5, Records: 4, Late: 2, Missing: 2}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trail := New(nil)
			for _, f := range tt.files {
				if err := trail.File(write(t, f)); err != nil {
					t.Fatal(err)
				}
			}
			got := *trail.Partitions[Partition{"t", 0}]
			var missing int64
			for _, h := range got.Holes {
				missing += h.To - h.From + 1
			}
			if missing != got.Missing {
				t.Errorf("holes %v, but %d are missing", got.Holes, got.Missing)
			}
			got.Holes = nil
			if fmt.Sprint(got) != fmt.Sprint(tt.want) || trail.Good(false) != tt.good {
				t.Errorf("got %+v, good %v; want %+v, good %v", got, trail.Good(false), tt.want, tt.good)
			}
			if trail.Good(true) != (got.Repeats+got.Late == 0) {
				t.Error("--allow-holes allows more, or less, than holes")
			}
		})
	}
}

func TestPartitionsAreCountedSeparately(t *testing.T) {
	trail := New(nil)
	if err := trail.File(write(t, line("b", 1, 7)+line("a", 1, 3)+line("b", 0, 1)+line("b", 1, 8)+line("a", 1, 4))); err != nil || !trail.Good(false) {
		t.Errorf("%v %v", err, trail.Partitions)
	}
	if got, want := trail.Sorted(), []Partition{{"a", 1}, {"b", 0}, {"b", 1}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCompressedFilesAreRead(t *testing.T) {
	var zipped bytes.Buffer
	for _, text := range []string{run(0, 1), run(2)} { // members one after the other
		w := gzip.NewWriter(&zipped)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frames := append(enc.EncodeAll([]byte(run(3)), nil), enc.EncodeAll([]byte(run(4, 5)), nil)...)
	trail := New(nil)
	for _, text := range []string{zipped.String(), string(frames), run(6), ""} {
		if err := trail.File(write(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	if c := trail.Partitions[Partition{"t", 0}]; c.Records != 7 || !trail.Good(false) {
		t.Errorf("got %+v", c)
	}
	if err := trail.File(write(t, zipped.String()[:zipped.Len()-5])); err == nil {
		t.Error("a torn archive is good")
	}
}

func TestLinesThatAreNotRecordsAreErrors(t *testing.T) {
	good := run(0, 1)
	for name, bad := range map[string]string{
		"no newline":        strings.TrimSuffix(run(2), "\n"),
		"torn":              run(2)[:40] + "\n",
		"two glued":         run(2)[:60] + run(3),
		"raw":               "hello\n",
		"empty":             "\n",
		"other JSON":        `{"a":1}` + "\n",
		"a list":            "[1]\n",
		"a null offset":     `{"topic":"t","partition":0,"offset":null}` + "\n",
		"a text for offset": `{"topic":"t","partition":0,"offset":"7"}` + "\n",
	} {
		path := write(t, good+bad)
		trail := New(nil)
		err := trail.File(path)
		var le *LineError
		if !errors.As(err, &le) || le.Line != 3 || le.File != path || !strings.HasPrefix(le.Error(), path+":3: ") {
			t.Errorf("%s: %v", name, err)
		}
		if c := trail.Partitions[Partition{"t", 0}]; c == nil || c.Records != 2 {
			t.Errorf("%s: the good lines were not counted", name)
		}
	}
	// Records of another program count, too.
	trail := New(nil)
	if err := trail.File(write(t, `{"offset": 4, "partition": 0, "topic": "t\u0020x"}`+"\n")); err != nil || trail.Partitions[Partition{"t x", 0}] == nil {
		t.Errorf("%v %v", err, trail.Partitions)
	}
}

// TestMemoryDoesNotGrowWithRecords: neither long lines nor many records use more memory.
func TestMemoryDoesNotGrowWithRecords(t *testing.T) {
	var b strings.Builder
	for i := range 200_000 {
		b.WriteString(line("t", i%4, i/4))
	}
	long := strings.Replace(line("t", 0, 50_000), `"v"`, `"`+strings.Repeat("x", 3<<20)+`"`, 1)
	path := write(t, b.String()+long)
	b.Reset()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var last int64
	trail := New(func(read int64) { last = read })
	if err := trail.File(path); err != nil || !trail.Good(false) {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes are held after 200,000 records", grown)
	}
	if info, _ := os.Stat(path); last != info.Size() {
		t.Errorf("progress ended at %d of %d", last, info.Size())
	}
}
