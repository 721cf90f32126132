package verify

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

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

// read returns the trail of the files.
func read(t *testing.T, files ...string) *Trail {
	t.Helper()
	trail := New(nil)
	for _, f := range files {
		if _, err := trail.File(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	return trail
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
		{"files by time, with late records", []string{run(0, 1, 4, 9), run(2, 3, 5, 7), run(6, 8)}, Count{Last: 9, Records: 10}, true},
		{"files in another order", []string{run(4, 5), run(0, 1), run(2, 3)}, Count{Last: 5, Records: 6}, true},
		{"a hole between files in another order", []string{run(4, 5), run(0, 1)}, Count{Last: 5, Records: 4, Missing: 2}, false},
		{"the same records twice", []string{run(0, 1), run(0, 1)}, Count{Last: 1, Records: 4, Repeats: 2}, false},
		{"files that overlap", []string{run(2, 3, 4), run(0, 1, 2, 3)}, Count{Last: 4, Records: 7, Repeats: 2}, false},
		{"a file within another", []string{run(0, 1, 2, 3, 4), run(1, 3)}, Count{Last: 4, Records: 7, Repeats: 2}, false},
		{"a file fills the holes of another", []string{run(0, 1, 4, 7), run(2, 3, 5, 6)}, Count{Last: 7, Records: 8}, true},
		{"a file fills holes and repeats", []string{run(0, 1, 4, 7, 9), run(1, 2, 3, 4, 5)}, Count{Last: 9, Records: 10, Repeats: 2, Missing: 2}, false},
		{"a repeat within the second file", []string{run(0, 1), run(2, 2)}, Count{Last: 2, Records: 4, Repeats: 1}, false},
		{"a hole within the second file", []string{run(0, 1), run(2, 5)}, Count{Last: 5, Records: 4, Missing: 2}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files []string
			for _, f := range tt.files {
				files = append(files, write(t, f))
			}
			got := read(t, files...).Count(Partition{"t", 0})
			if missing := length(got.Holes); missing != got.Missing {
				t.Errorf("holes %v, but %d are missing", got.Holes, got.Missing)
			}
			if repeated := length(got.Repeated); repeated != got.Repeats {
				t.Errorf("repeated are %v, but %d repeats are counted", got.Repeated, got.Repeats)
			}
			if got.Good(false) != tt.good || got.Good(true) != (got.Repeats+got.Late == 0) {
				t.Errorf("good %v, with --allow-holes %v, for %+v", got.Good(false), got.Good(true), got)
			}
			got.Holes, got.Repeated, got.start = nil, nil, ""
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func length(runs []Run) (n int64) {
	for _, r := range runs {
		n += r.To - r.From + 1
	}
	return n
}

// TestJoinedFilesAreCountedLikeOneFile: for random files whose ranges do not overlap, the
// order in which they are named does not matter.
func TestJoinedFilesAreCountedLikeOneFile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		var whole []int
		var files []string
		for at := 0; len(files) < 4; {
			var one []int
			for range 1 + random.IntN(5) {
				at += random.IntN(3) // 0 is a repeat, 2 a hole
				one = append(one, at)
			}
			at++
			whole = append(whole, one...)
			files = append(files, write(t, run(one...)))
		}
		want := read(t, write(t, run(whole...))).Count(Partition{"t", 0})
		random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		got := read(t, files...).Count(Partition{"t", 0})
		if got.First != want.First || got.Last != want.Last || got.Records != want.Records || got.Missing != want.Missing ||
			got.Repeats != want.Repeats || got.Late != want.Late || length(got.Holes) != got.Missing {
			t.Fatalf("offsets %v: got %+v, want %+v", whole, got, want)
		}
	}
}

// TestHolesBeyondTheBoundAreStillMissing, also those of a second file.
func TestHolesBeyondTheBoundAreStillMissing(t *testing.T) {
	var first, second []int
	for i := range maxHoles + 50 {
		first = append(first, 2*i)
		second = append(second, 4*maxHoles+2*i)
	}
	c := read(t, write(t, run(second...)), write(t, run(first...))).Count(Partition{"t", 0})
	if want := c.Last - c.First + 1 - c.Records; c.Missing != want || c.Repeats > 0 || c.Late > 0 || len(c.Holes) > maxHoles {
		t.Errorf("%d missing, want %d; %d repeats, %d late, %d holes", c.Missing, want, c.Repeats, c.Late, len(c.Holes))
	}
}

// TestPlacesAreReported: of the record after a hole, and of the first repeat.
func TestPlacesAreReported(t *testing.T) {
	a, b := write(t, run(0, 3, 3)), write(t, run(6, 7))
	c := read(t, b, a, write(t, run(7, 8))).Count(Partition{"t", 0})
	if want := []Run{{1, 2, a + ":2"}, {4, 5, b + ":1"}}; !slices.Equal(c.Holes, want) {
		t.Errorf("holes %v, want %v", c.Holes, want)
	}
	if len(c.Repeated) != 2 || c.Repeated[0] != (Run{3, 3, a + ":3"}) || c.Repeated[1].From != 7 || c.Repeated[1].To != 7 {
		t.Errorf("repeated %v", c.Repeated)
	}
}

func TestPartitionsAreCountedSeparately(t *testing.T) {
	trail := read(t, write(t, line("b", 1, 7)+line("a", 1, 3)+line("b", 0, 1)+line("b", 1, 8)+line("a", 1, 4)))
	got, want := trail.Partitions(), []Partition{{"a", 1}, {"b", 0}, {"b", 1}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, p := range got {
		if c := trail.Count(p); !c.Good(false) {
			t.Errorf("%v: %+v", p, c)
		}
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
	trail := read(t, write(t, zipped.String()), write(t, string(frames)), write(t, run(6)), write(t, ""))
	if c := trail.Count(Partition{"t", 0}); c.Records != 7 || !c.Good(false) {
		t.Errorf("got %+v", c)
	}
	for _, whole := range []string{zipped.String(), string(frames)} {
		var le *LineError
		if _, err := trail.File(t.Context(), write(t, whole[:len(whole)-5])); !errors.As(err, &le) || !strings.Contains(le.Reason, "in the middle of a block") {
			t.Errorf("torn: %v", err)
		}
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
		"negative":          line("t", 0, -1),
	} {
		path := write(t, good+bad)
		trail := New(nil)
		n, err := trail.File(t.Context(), path)
		var le *LineError
		if !errors.As(err, &le) || le.Line != 3 || le.File != path || !strings.HasPrefix(le.Error(), path+":3: ") {
			t.Errorf("%s: %v", name, err)
		}
		if n != 2 || trail.Count(Partition{"t", 0}).Records != 2 {
			t.Errorf("%s: the good lines were not counted", name)
		}
	}
	// Records of another program count, too.
	trail := read(t, write(t, `{"offset": 4, "partition": 0, "topic": "t\u0020x"}`+"\n"))
	if c := trail.Count(Partition{"t x", 0}); c.Records != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestAnotherFormatIsNamed(t *testing.T) {
	for name, text := range map[string]string{
		"raw": "hello\n", "raw JSON": `{"order_id":"o-1"}` + "\n", "binary": "\x1b[2J\x00\xff\n", "a key": `{"topic":"t"}` + "\n", "blank": "\n",
	} {
		_, err := New(nil).File(t.Context(), write(t, text))
		if err == nil || !strings.Contains(err.Error(), "file is not in the json format: line 1 is ") || !strings.HasSuffix(err.Error(), "; use sink.file.format: json") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x00\x1b") {
			t.Errorf("%s: %q has control characters", name, err)
		}
	}
}

func TestEmptyFileHasNoRecords(t *testing.T) {
	trail := New(nil)
	if n, err := trail.File(t.Context(), write(t, "")); n != 0 || err != nil || len(trail.Partitions()) > 0 {
		t.Errorf("%d records, %v", n, err)
	}
}

// A growing file returns one part after the other, with an end of the file after each.
type growing struct{ parts []string }

func (g *growing) Read(p []byte) (int, error) {
	if len(g.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.parts[0])
	g.parts[0] = g.parts[0][n:]
	if n == 0 {
		g.parts = g.parts[1:]
		return 0, io.EOF
	}
	return n, nil
}

// TestLineThatIsBeingWrittenIsComplete: the file ends within a line, and the writer
// completes it.
func TestLineThatIsBeingWrittenIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := run(0, 1, 2)
		var got []int64
		found := func(_ Partition, offset, _ int64) { got = append(got, offset) }
		read := func(parts ...string) error {
			got = nil
			return lines("f", bufio.NewReaderSize(&growing{parts}, 32), found)
		}
		third := len(text) / 3
		if err := read(text[:third+9], text[third+9:third+20], "", "", text[third+20:]); err != nil || !slices.Equal(got, []int64{0, 1, 2}) {
			t.Errorf("got %v, %v", got, err)
		}
		if err := read(text[:third+9]); err == nil || !strings.HasPrefix(err.Error(), "f:2: incomplete last line") || len(got) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestReadingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("received interrupt")
	cancel(cause)
	if _, err := New(nil).File(ctx, write(t, run(0, 1))); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
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
	if _, err := trail.File(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if c := trail.Count(Partition{"t", 0}); !c.Good(false) || c.Records != 50_001 {
		t.Fatalf("got %+v", c)
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
