package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
)

// TestLockedFileIsRejected checks that no other sink opens the file under any name, also if
// the checkpoint file is deleted.
func TestLockedFileIsRejected(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "out.log"), filepath.Join(dir, "link.log")
	s := mustOpen(t, fileSpec(path), nil)
	rejected := func(path string) {
		t.Helper()
		_, err := openWith(t.Context(), fileSpec(path), testOptions{})
		if !errors.Is(err, disk.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want that %s is locked", err, path)
		}
	}
	rejected(path)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	rejected(link)
	if err := os.Remove(path + filename.CheckpointSuffix); err != nil {
		t.Fatal(err)
	}
	rejected(path)

	// Neither a rejected sink nor a closed one keeps a lock.
	mustWrite(t, s, records(0, 0, 1))
	mustClose(t, s)
	s = mustOpen(t, fileSpec(link), nil)
	mustWrite(t, s, records(0, 1, 1))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 2)))
}

// TestLockOutlivesTheFile checks that the path stays locked while the file is moved.
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

// TestTornEndIsTruncatedInOwnFiles checks that a torn record is truncated in a file that the
// sink created. Any other file is continued on a new line.
func TestTornEndIsTruncatedInOwnFiles(t *testing.T) {
	const tailBlock = 64 << 10 // the length that is read at once from the end
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

// TestForeignFileIsNotChanged checks that a file whose end has no newline for longer than
// any record is rejected and not changed.
func TestForeignFileIsNotChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func(n int64) { compress.LongestTail = n }(compress.LongestTail)
	compress.LongestTail = 256 << 20
	size := compress.LongestTail + 100 // a hole, which needs no disk space
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
