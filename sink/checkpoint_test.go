package sink

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/leader"
)

// folder lists what is in a folder, sorted.
func folder(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// rejected demands an error that names the path and the next step, and that
// nothing was touched.
func rejected(t *testing.T, path, cause string) {
	t.Helper()
	files := func() map[string]string {
		all := map[string]string{}
		for _, n := range folder(t, filepath.Dir(path)) {
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

func setFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedCheckpointIsRejected: if neither slot is whole, nothing is guessed.
func TestDamagedCheckpointIsRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	good := readFile(t, path+checkpointSuffix)
	if len(good) != 2*slotSize {
		t.Fatalf("the checkpoint has %d bytes, want two slots", len(good))
	}
	spoil := func(first, second int) string {
		b := []byte(good)
		b[first] ^= 1
		b[slotSize+second] ^= 1
		return string(b)
	}
	for n := range 100 {
		setFile(t, path+checkpointSuffix, spoil(n, (n*7)%100))
		rejected(t, path, "damaged")
	}
	setFile(t, path+checkpointSuffix, strings.ToUpper(good))
	rejected(t, path, "damaged")
	for _, n := range []int{50, 100} { // the first slot alone, but not of the first checkpoint
		setFile(t, path+checkpointSuffix, good[slotSize:slotSize+n])
		rejected(t, path, "damaged")
	}
	setFile(t, path+checkpointSuffix, good)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 5)
	mustClose(t, s)
}

// TestFileIsIdentified: a file that is not the one in the checkpoint, or holds less,
// is rejected; a copy of it is continued.
func TestFileIsIdentified(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	was := readFile(t, path)
	setFile(t, path, was[:20])
	rejected(t, path, "are safe")
	setFile(t, path, strings.ToUpper(was)+"more\n")
	rejected(t, path, "its content")
	replace := func(content string) {
		t.Helper()
		other := filepath.Join(t.TempDir(), "other.log")
		setFile(t, other, content)
		if err := os.Rename(other, path); err != nil {
			t.Fatal(err)
		}
	}
	replace(strings.ToUpper(was))
	rejected(t, path, "its content")

	replace(was + "p0-000005\ntorn")
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 5)
	mustWrite(t, s, records(0, 5, 2))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 7)))
}

// TestSlotsAlternate: a checkpoint overwrites the older of two slots, so that one
// that is torn leaves the one before it; one that outgrows its slot goes to a larger
// pair.
func TestSlotsAlternate(t *testing.T) {
	fsys := newMemoryFS()
	f, err := fsys.OpenFile("/d/x", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := slots{f: f, used: -1}
	if body, err := s.load(); body != nil || err != nil {
		t.Fatalf("an empty file holds %q, %v", body, err)
	}
	var last []byte
	for n, size := range []int{1, 10, 100, 4000, 4096, 5000, 1, 20_000, 20_000, 100_000, 3, 3} {
		body := bytes.Repeat([]byte{byte('a' + n)}, size)
		if err := s.store(body, true); err != nil {
			t.Fatal(err)
		}
		again := slots{f: f}
		if got, err := again.load(); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("store %d: got %.20q, %v", n, got, err)
		}
		// Torn, it leaves the one before.
		offset, _ := slotAt(s.used)
		torn := fsys.names["/d/x"].data
		torn[offset+int64(headerSize)] ^= 1
		got, err := again.load()
		if err != nil || !bytes.Equal(got, last) {
			t.Fatalf("store %d was torn: got %.20q, %v, want %.20q", n, got, err, last)
		}
		torn[offset+int64(headerSize)] ^= 1
		last = body
	}
}

// TestSlotsFailedStoreIsRepeated: after a store that failed the same slot is written
// again, never the one that holds the newest durable checkpoint.
func TestSlotsFailedStoreIsRepeated(t *testing.T) {
	fsys := newMemoryFS()
	f, _ := fsys.OpenFile("/d/x", os.O_CREATE|os.O_RDWR, 0o600)
	s := slots{f: f, used: -1}
	for _, body := range []string{"one", "two"} {
		if err := s.store([]byte(body), true); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		fsys.fault = func() error { return errDied }
		if err := s.store([]byte("three"), true); err == nil {
			t.Fatal("no error")
		}
		fsys.fault = nil
		for _, l := range losses {
			after := fsys.crash(l)
			g, _ := after.OpenFile("/d/x", os.O_RDWR, 0)
			if g == nil {
				continue // its name was never synced
			}
			body, err := (&slots{f: g}).load()
			if err != nil || !slices.Contains([]string{"two", "three"}, string(body)) {
				t.Errorf("%s: got %q, %v", l.name, body, err)
			}
		}
	}
	if err := s.store([]byte("four"), true); err != nil {
		t.Fatal(err)
	}
}

// TestFailedStoreLosesToALargerOne: a checkpoint whose sync failed may be on the disk all
// the same. One that is stored later wins over it, also if it has outgrown the slot.
func TestFailedStoreLosesToALargerOne(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), newFaultFS()
	s := openExact(t, path, fsys)
	id := place(t, s, 0).ID
	mustWrite(t, s, records(0, 0, 10))
	fsys.set(fail(syscall.EIO, "datasync out.log+checkpoint"))
	if err := s.Flush(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	fsys.set(nil)
	if err := s.Adopt(t.Context(), TopicPartition{"orders", 1}, id, Position{Lineage: strings.Repeat("l", slotSize)}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 10, 10))
	mustFlush(t, s)
	die(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 20)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 20)))
}

// TestDurabilityNoneCutsNoForeignFile: after a power loss a file may be shorter than its
// checkpoint says. A shorter file with another inode is that of another program.
func TestDurabilityNoneCutsNoForeignFile(t *testing.T) {
	for _, c := range []Compression{Uncompressed, Zstd} {
		t.Run(string(c), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.log")
			spec := exactSpec(path)
			spec.File.Durability, spec.File.Compression = None, c
			s := mustOpen(t, spec, nil)
			mustWrite(t, s, records(0, 0, 10))
			mustClose(t, s)
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			foreign := "a line of another program\nand"
			setFile(t, path, foreign)
			if s, err := Open(t.Context(), spec, Options{}); err == nil {
				mustClose(t, s)
			}
			kept := slices.ContainsFunc(folder(t, dir), func(name string) bool {
				return strings.HasPrefix(readFile(t, filepath.Join(dir, name)), foreign)
			})
			if !kept {
				t.Errorf("the file of the other program was cut; files are %q", folder(t, dir))
			}
		})
	}
}

func FuzzCheckpoint(f *testing.F) {
	for _, c := range []*checkpoint{
		{Ledger: "x", Group: "g"},
		{
			Ledger: "x", File: &fileMark{Inode: 1, Born: 9, Length: 2, Tail: 3, Compression: Zstd}, Done: &fileMark{Inode: 1, Length: 2, Final: time.UnixMilli(5)},
			Topics: []topicMark{{"t", Identity{"c", "i", "b"}, map[int32]partitionMark{0: {5, "l", leader.NewEpoch(0)}, 7: {1 << 40, "", leader.Unknown}}}},
		},
	} {
		body, err := c.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		f.Add(encodeSlot(7, body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, body, ok := parseSlot(data)
		if !ok {
			body = data // even with a checksum that fits, what is decoded must be sound
		}
		c, err := decodeCheckpoint(body)
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
