package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProofIsReported: what stdout, stderr and the error say about files.
func TestProofIsReported(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, b, far := file("a", run(0, 1)), file("b", run(2, 3)), file("far", run(9))
	empty, raw, rawToo := file("empty", ""), file("raw", "hello\n"), file("raw2", "no newline")
	torn, again := file("torn", run(4)+run(5)[:30]), file("again", run(1, 1, 2))
	hostile := file("hostile", `{"topic":"\u001b[2Jt","partition":0,"offset":1}`+"\n")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(a, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name            string
		files           []string
		allowHoles      bool
		good            bool
		out, notes, err []string
	}{
		{"whole", []string{b, a}, false, true, []string{"topic  partition  first  last  records  missing  repeated  late\n", "    t          0      0     3        4        0         0     0\n"}, nil, nil},
		{"through a link", []string{link, b}, false, true, []string{"     3        4  "}, nil, nil},
		{"a hole", []string{a, far}, false, false, []string{"t/0: offsets 2 to 8 are missing before " + far + ":1\n"}, []string{"--allow-holes accepts missing offsets"}, nil},
		{"an allowed hole", []string{a, far}, true, true, []string{"offsets 2 to 8 are missing"}, nil, nil},
		{"an allowed hole and a repeat", []string{far, again}, true, false, []string{"t/0: offset 1 is repeated at " + again + ":2\n"}, nil, nil},
		{"two consumers", []string{a, again}, true, false, []string{"offset 1 is repeated at"}, []string{"verify the files of each consumer separately"}, nil},
		{"one file twice", []string{a, b, link}, true, false, []string{"t/0: offsets 0 to 1 are repeated at " + link + ":1\n"}, []string{a + " and " + link + " are one file"}, nil},
		{"an incomplete line", []string{a, b, torn}, false, false, []string{torn + ":2: incomplete last line: no newline; if the agent writes the file", "     4        5  "}, nil, nil},
		{"an empty file beside another", []string{empty, a}, false, true, []string{"     1        2  "}, []string{empty + " has no records\n"}, nil},
		{"empty", []string{empty}, true, false, nil, nil, []string{"nothing is proven: no record was read"}},
		{"raw", []string{raw}, true, false, nil, nil, []string{raw + `: file is not in the json format: line 1 is "hello"; use sink.file.format: json`}},
		{"raw beside others", []string{raw, a, rawToo}, true, false, []string{"     1        2  "}, nil, []string{raw + ": file is not", rawToo + ": file is not"}},
		{"absent", []string{filepath.Join(dir, "none")}, true, false, nil, nil, []string{"open " + dir + "/none: no such file"}},
		{"a folder", []string{dir}, true, false, nil, nil, []string{"read " + dir + ": is a directory"}},
		{"escape sequences", []string{hostile}, false, true, []string{`"\x1b[2Jt"`}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, notes strings.Builder
			good, err := Prove(t.Context(), New(nil), tt.files, tt.allowHoles, &out, &notes)
			if good != tt.good || (err == nil) != (tt.err == nil) {
				t.Errorf("good %v, error %v", good, err)
			}
			if tt.good && tt.notes == nil && notes.Len() > 0 {
				t.Errorf("advice on a good proof: %s", notes.String())
			}
			message := ""
			if err != nil {
				message = err.Error()
			}
			for _, c := range []struct {
				got  string
				want []string
			}{{out.String(), tt.out}, {notes.String(), tt.notes}, {message, tt.err}} {
				for _, want := range c.want {
					if !strings.Contains(c.got, want) {
						t.Errorf("%q is missing in\n%s", want, c.got)
					}
				}
			}
			if strings.Contains(out.String()+notes.String()+message, "\x1b") {
				t.Error("an escape sequence is printed")
			}
		})
	}
}

// TestFirstRunsAreListed: ten of each kind, and the number of the other offsets.
func TestFirstRunsAreListed(t *testing.T) {
	var offsets []int
	for i := range 13 {
		offsets = append(offsets, 3*i, 3*i)
	}
	var out strings.Builder
	if good, err := Prove(t.Context(), New(nil), []string{write(t, run(offsets...))}, false, &out, new(strings.Builder)); good || err != nil {
		t.Errorf("good %v, %v", good, err)
	}
	for want, times := range map[string]int{" are missing before ": 10, " is repeated at ": 10, "t/0: 4 more offsets are missing\n": 1, "t/0: 3 more offsets are repeated\n": 1} {
		if n := strings.Count(out.String(), want); n != times {
			t.Errorf("%q is printed %d times, want %d:\n%s", want, n, times, out.String())
		}
	}
}

func TestInterruptedProofIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("received interrupt")
	cancel(cause)
	if good, err := Prove(ctx, New(nil), []string{write(t, run(0))}, false, new(strings.Builder), new(strings.Builder)); good || !errors.Is(err, cause) {
		t.Errorf("good %v, %v", good, err)
	}
}
