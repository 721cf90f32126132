package file

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
)

// TestDamagedCheckpointIsRejected: if neither slot is whole, nothing is guessed.
func TestDamagedCheckpointIsRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	good := readFile(t, path+filename.CheckpointSuffix)
	if len(good) != 2*checkpoint.SlotSize {
		t.Fatalf("the checkpoint has %d bytes, want two slots", len(good))
	}
	spoil := func(first, second int) string {
		b := []byte(good)
		b[first] ^= 1
		b[checkpoint.SlotSize+second] ^= 1
		return string(b)
	}
	for n := range 100 {
		setFile(t, path+filename.CheckpointSuffix, spoil(n, (n*7)%100))
		rejected(t, path, "damaged")
	}
	setFile(t, path+filename.CheckpointSuffix, strings.ToUpper(good))
	rejected(t, path, "damaged")
	for _, n := range []int{50, 100} { // the first slot alone, but not of the first checkpoint
		setFile(t, path+filename.CheckpointSuffix, good[checkpoint.SlotSize:checkpoint.SlotSize+n])
		rejected(t, path, "damaged")
	}
	setFile(t, path+filename.CheckpointSuffix, good)
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
	rejected(t, path, "requires")
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

// TestFailedStoreLosesToALargerOne: a checkpoint whose sync failed may be on the disk all
// the same. One that is stored later wins over it, also if it has outgrown the slot.
func TestFailedStoreLosesToALargerOne(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	id := place(t, s, 0).ID
	mustWrite(t, s, records(0, 0, 10))
	fsys.SetFault(fail(syscall.EIO, "datasync out.log+checkpoint"))
	if err := s.Flush(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 1}, id, sink.Position{Lineage: strings.Repeat("l", checkpoint.SlotSize)}); err != nil {
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
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Zstd} {
		t.Run(string(c), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.log")
			spec := exactSpec(path)
			spec.File.Durability, spec.File.Compression = sink.None, c
			s := mustOpen(t, spec, nil)
			mustWrite(t, s, records(0, 0, 10))
			mustClose(t, s)
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			foreign := "a line of another program\nand"
			setFile(t, path, foreign)
			if s, err := openWith(t.Context(), spec, testOptions{}); err == nil {
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
