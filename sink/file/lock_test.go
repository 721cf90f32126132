package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/compress"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
)

// TestLock: nobody else gets the file while a sink has it, by whichever name,
// and even if the lock file is deleted.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "out.log"), filepath.Join(dir, "link.log")
	s := mustOpen(t, fileSpec(path), nil)
	refused := func(path string) {
		t.Helper()
		_, err := openWith(t.Context(), fileSpec(path), testOptions{})
		if !errors.Is(err, disk.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want that %s is locked", err, path)
		}
	}
	refused(path)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	refused(link)
	if err := os.Remove(path + filename.CheckpointSuffix); err != nil {
		t.Fatal(err)
	}
	refused(path)

	// A sink that was refused keeps nothing, and one that is closed neither.
	mustWrite(t, s, records(0, 0, 1))
	mustClose(t, s)
	s = mustOpen(t, fileSpec(link), nil)
	mustWrite(t, s, records(0, 1, 1))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 2)))
}

// TestLockOutlivesTheFile: the path stays locked while the file is away.
func TestLockOutlivesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := mustOpen(t, fileSpec(path), nil)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, s)
	if _, err := openWith(t.Context(), fileSpec(path), testOptions{}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	mustClose(t, s)
}

// TestTornEnd: a torn record is cut off a file that the sink made. Any other file is
// continued on a new line.
func TestTornEnd(t *testing.T) {
	const tailBlock = 64 << 10 // is read at once from the end
	long := strings.Repeat("x", 2*tailBlock+17)
	for name, c := range map[string]struct{ whole, torn string }{
		"empty":       {"", ""},
		"whole":       {"a\nb\n", ""},
		"torn":        {"a\nb\n", "c"},
		"torn, long":  {"a\n", long},
		"zeros":       {"a\n", "\x00\x00\x00"},
		"first, torn": {"", "ab"},
		"block edge":  {"a\n", strings.Repeat("x", tailBlock)},
	} {
		for _, ours := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ours=%v", name, ours), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out.log")
				if ours {
					mustClose(t, mustOpen(t, fileSpec(path), nil))
				}
				if err := os.WriteFile(path, []byte(c.whole+c.torn), 0o600); err != nil {
					t.Fatal(err)
				}
				s := mustOpen(t, fileSpec(path), nil)
				mustWrite(t, s, []sink.Record{{Topic: "t", Value: []byte("new")}})
				mustClose(t, s)
				switch {
				case ours, c.torn == "":
					checkFile(t, path, c.whole+"new\n")
				default:
					checkFile(t, path, c.whole+c.torn+"\nnew\n")
				}
			})
		}
	}
}

// TestForeignFileIsLeftAlone: what has no newline for longer than any record
// was not written by a sink.
func TestForeignFileIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func(n int64) { compress.LongestTail = n }(compress.LongestTail)
	compress.LongestTail = 256 << 20
	size := compress.LongestTail + 100 // a hole, so it takes no room
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if _, err := openWith(t.Context(), fileSpec(path), testOptions{}); err == nil || !strings.Contains(err.Error(), "not written by this sink") {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != size {
		t.Errorf("the file has %v bytes, want %d untouched", info.Size(), size)
	}
}
