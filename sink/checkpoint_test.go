package sink

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refused demands an error that names the path and says what to do, and that
// nothing was touched.
func refused(t *testing.T, path, cause string) {
	t.Helper()
	files := func() map[string]string {
		all := map[string]string{}
		names, _ := osFS{}.List(filepath.Dir(path))
		for _, n := range names {
			all[n] = readFile(t, filepath.Join(filepath.Dir(path), n))
		}
		return all
	}
	before := files()
	s, err := Open(t.Context(), exactSpec(path), Options{Group: "g"})
	if err == nil {
		mustClose(t, s)
		t.Fatalf("opened, want an error with %q", cause)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), "move") {
		t.Errorf("the error is %q, want %q in it", err, cause)
	}
	after := files()
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s was changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("files are %d, were %d", len(after), len(before))
	}
}

// TestBadCheckpoint: one that is torn, garbage, changed or made for another
// file is an error; nothing is guessed.
func TestBadCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	good := readFile(t, path+".checkpoint")
	set := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for n := range len(good) {
		set(path+".checkpoint", good[:n])
		refused(t, path, "damaged")
	}
	for _, bad := range []string{"\x00\x00", strings.Replace(good, `"length":5`, `"length":4`, 1), good + "x", strings.ToUpper(good)} {
		set(path+".checkpoint", bad)
		refused(t, path, "damaged")
	}
	set(path+".checkpoint", good)

	was := readFile(t, path)
	set(path, was[:20])
	refused(t, path, "are safe")
	set(path, strings.ToUpper(was)+"more\n")
	refused(t, path, "another file")
	other := filepath.Join(t.TempDir(), "other.log")
	set(other, strings.ToUpper(was))
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	refused(t, path, "another file")

	// A copy that was restored, perhaps with more at its end, is the right one.
	set(other, was+"p0-000005\ntorn")
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 5)
	mustWrite(t, s, records(0, 5, 2))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 7)))
}

func FuzzCheckpoint(f *testing.F) {
	for _, c := range []*checkpoint{
		{ID: "kcagent x", Group: "g"},
		{
			ID: "kcagent x", File: &fileMark{"a", 1, 9, 2, 3, Zstd}, Done: &fileMark{"b", 1, 9, 2, 3, Uncompressed},
			Topics: []topicMark{{"t", Identity{"c", "i"}, map[int32]int64{0: 5, 7: 1 << 40}}},
		},
	} {
		data, err := c.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCheckpoint(data)
		if err != nil {
			// Even with a checksum that fits, what is decoded must be sound.
			body, _ := bytes.CutPrefix(data, []byte("kcagent checkpoint 1 crc32c "))
			if _, body, ok := bytes.Cut(body, []byte("\n")); ok {
				c, err = decodeCheckpoint(sealed(body))
			}
		}
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeCheckpoint(again); err != nil {
			t.Fatalf("what was decoded cannot be: %v\n%q", err, again)
		}
	})
}
