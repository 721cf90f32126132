package file

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/filename"
)

// TestDamagedCheckpointIsRejected checks that the sink does not guess if neither slot is
// whole.
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
		writeFile(t, path+filename.CheckpointSuffix, spoil(n, (n*7)%100))
		wantRejected(t, path, "damaged")
	}
	writeFile(t, path+filename.CheckpointSuffix, strings.ToUpper(good))
	wantRejected(t, path, "damaged")
	for _, n := range []int{50, 100} { // only the first slot, but not with the first checkpoint
		writeFile(t, path+filename.CheckpointSuffix, good[checkpoint.SlotSize:checkpoint.SlotSize+n])
		wantRejected(t, path, "damaged")
	}
	writeFile(t, path+filename.CheckpointSuffix, good)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 5)
	mustClose(t, s)
}

// TestFormatOfAnotherVersionIsRejected checks that the sink changes neither a checkpoint in
// another format nor its file, whatever the durability, also if only one slot is in use.
func TestFormatOfAnotherVersionIsRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	ours, file := readFile(t, path+filename.CheckpointSuffix), readFile(t, path)
	slot := newerSlot(t, ours)
	for name, content := range map[string]string{
		"the first slot":  slot + ours[len(slot):],
		"the second slot": ours[:checkpoint.SlotSize] + slot,
		"the only slot":   slot + strings.Repeat("\x00", 2*checkpoint.SlotSize-len(slot)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, durability := range []sink.Durability{sink.Fsync, sink.None} {
				writeFile(t, path+filename.CheckpointSuffix, content)
				spec := exactSpec(path)
				spec.File.Durability = durability
				s, err := openWith(t.Context(), spec, testOptions{})
				if err == nil {
					mustClose(t, s)
				}
				if err == nil || !strings.Contains(err.Error(), "checkpoint has format 3, and this version of kcagent reads format 2: run the version that wrote it") {
					t.Errorf("durability %s: got %v", durability, err)
				}
				if readFile(t, path+filename.CheckpointSuffix) != content || readFile(t, path) != file {
					t.Errorf("durability %s: the file or its checkpoint has changed", durability)
				}
			}
		})
	}
}

// TestReplacedCheckpointInAnotherFormatIsKept checks that each flush reports a checkpoint in
// another format that replaces the open one, and that none overwrites it. With the former
// checkpoint, the file continues where the last flush left it.
func TestReplacedCheckpointInAnotherFormatIsKept(t *testing.T) {
	for _, durability := range []sink.Durability{sink.Fsync, sink.None} {
		t.Run(string(durability), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.log")
			var log bytes.Buffer
			spec := exactSpec(path)
			spec.File.Durability = durability
			options := testOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}
			s, err := openWith(t.Context(), spec, options)
			if err != nil {
				t.Fatal(err)
			}
			resume(t, s, 0)
			mustWrite(t, s, records(0, 0, 5))
			mustFlush(t, s)
			at := path + filename.CheckpointSuffix
			ours := readFile(t, at)
			slot := newerSlot(t, ours)
			content := slot + ours[len(slot):]
			replace := func(content string) {
				t.Helper()
				writeFile(t, at+".new", content)
				if err := os.Rename(at+".new", at); err != nil {
					t.Fatal(err)
				}
			}
			replace(content)
			for i := range 3 {
				mustWrite(t, s, records(0, 5+i*5, 5))
				if err := s.Flush(t.Context(), false); err == nil || !strings.Contains(err.Error(), "checkpoint has format 3") {
					t.Errorf("flush %d returns %v", i, err)
				}
				if readFile(t, at) != content {
					t.Fatalf("flush %d has changed the checkpoint", i)
				}
			}
			_ = s.Close(false)
			if readFile(t, at) != content || log.Len() > 0 {
				t.Errorf("the checkpoint has changed, or the log is not empty:\n%s", log.String())
			}
			replace(ours)
			s, err = openWith(t.Context(), spec, testOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantNext(t, s, 0, 5)
			mustClose(t, s)
		})
	}
}

// TestKeeperIgnoresOtherFormats checks that a checkpoint in another format does not prevent
// the keeper from listing the folder. It completes and removes no file beside it.
func TestKeeperIgnoresOtherFormats(t *testing.T) {
	dir, clk := t.TempDir(), newClock()
	path := filepath.Join(dir, "9.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	slot := newerSlot(t, readFile(t, path+filename.CheckpointSuffix))
	writeFile(t, path+filename.CheckpointSuffix, slot)
	before := readFile(t, path)

	var log bytes.Buffer
	spec := exactSpec(filepath.Join(dir, "{partition}.log"))
	spec.File.Rotate = &sink.Rotate{Every: time.Hour, Keep: 1}
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g", Now: clk.now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	resume(t, s, 0)
	clk.add(2 * time.Hour)
	runKeeper(s)
	mustClose(t, s)
	if log.Len() > 0 {
		t.Errorf("the log is\n%s", log.String())
	}
	if readFile(t, path+filename.CheckpointSuffix) != slot || readFile(t, path) != before {
		t.Error("the file or its checkpoint has changed")
	}
}

// newerSlot returns the first slot of a checkpoint as a version with format 3 would write
// it: with another digit, an unknown field, and its own length and checksum.
func newerSlot(t *testing.T, ours string) string {
	t.Helper()
	header, body, _ := strings.Cut(ours, "\n")
	seq := regexp.MustCompile(`seq=[0-9a-f]{16} `).FindString(header)
	body, _, _ = strings.Cut(body, "\n")
	body = strings.Replace(body, "{", `{"later":true,`, 1) + "\n"
	head := fmt.Sprintf("kcagent checkpoint 3 %sbytes=%08x crc32c=", seq, len(body))
	sum := crc32.Checksum([]byte(head+body), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("%s%08x\n%s", head, sum, body)
}

// TestOtherFileThanInTheCheckpointIsRejected checks that a file that is not the one in the
// checkpoint, or is shorter, is rejected, and that a copy of it is continued.
func TestOtherFileThanInTheCheckpointIsRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	mustWrite(t, s, records(0, 0, 5))
	mustClose(t, s)
	was := readFile(t, path)
	writeFile(t, path, was[:20])
	wantRejected(t, path, "requires")
	writeFile(t, path, strings.ToUpper(was)+"more\n")
	wantRejected(t, path, "content does not match")
	replace := func(content string) {
		t.Helper()
		other := filepath.Join(t.TempDir(), "other.log")
		writeFile(t, other, content)
		if err := os.Rename(other, path); err != nil {
			t.Fatal(err)
		}
	}
	replace(strings.ToUpper(was))
	wantRejected(t, path, "content does not match")

	replace(was + "p0-000005\ntorn")
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 5)
	mustWrite(t, s, records(0, 5, 2))
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 7)))
}

// TestFailedCheckpointLosesToALargerOne checks that a later checkpoint wins over one whose
// sync failed but which is on the disk nevertheless, also if the later one has outgrown the
// slot.
func TestFailedCheckpointLosesToALargerOne(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	s := openExact(t, path, fsys)
	id := resume(t, s, 0).ID
	mustWrite(t, s, records(0, 0, 10))
	fsys.SetFault(fail(syscall.EIO, "datasync out.log+checkpoint"))
	if err := s.Flush(t.Context(), false); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	if err := s.Adopt(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 1}, id, sink.Position{Lineage: strings.Repeat("l", checkpoint.SlotSize)}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 10, 10))
	mustFlush(t, s)
	abandon(t, s)
	s = openExact(t, path, nil)
	wantNext(t, s, 0, 20)
	mustClose(t, s)
	checkFile(t, path, lines(want(0, 0, 20)))
}

// TestDurabilityNoneTruncatesNoForeignFile checks that a shorter file with another inode is
// the file of another program, although a power loss may shorten a file under durability
// none.
func TestDurabilityNoneTruncatesNoForeignFile(t *testing.T) {
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
			writeFile(t, path, foreign)
			if s, err := openWith(t.Context(), spec, testOptions{}); err == nil {
				mustClose(t, s)
			}
			kept := slices.ContainsFunc(fileNames(t, dir), func(name string) bool {
				return strings.HasPrefix(readFile(t, filepath.Join(dir, name)), foreign)
			})
			if !kept {
				t.Errorf("the file of the other program was truncated; files are %q", fileNames(t, dir))
			}
		})
	}
}
