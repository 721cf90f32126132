package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var codecs = []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd}

func newFolder(t *testing.T, root string) *Folder {
	t.Helper()
	f, err := Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// lines returns n bytes of lines that differ from the lines of other calls.
func lines(n, from int) []byte {
	return append(fmt.Appendf(nil, "chunk %d of ", from), manyLines[:n]...)
}

var manyLines = func() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 200_000; i++ {
		fmt.Fprintf(&b, "line %d %x\n", i, i*7919)
	}
	return b.Bytes()
}()

// plain returns the content of a body, decompressed.
func plain(t *testing.T, f *File) string {
	t.Helper()
	return decompress(t, f.codec, raw(t, f))
}

// raw returns the content of a body.
func raw(t *testing.T, f *File) []byte {
	t.Helper()
	b, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, math.MaxInt64))
	if err != nil || int64(len(data)) != b.Size() {
		t.Fatalf("read %d bytes of %d: %v", len(data), b.Size(), err)
	}
	for _, at := range []int64{0, b.Size() / 2, b.size - 1, b.size} { // across the boundary
		at = max(at, 0)
		part := make([]byte, min(100, b.Size()-at))
		if n, err := b.ReadAt(part, at); len(part) > 0 && (n != len(part) || err != nil || !bytes.Equal(part, data[at:][:n])) {
			t.Errorf("ReadAt(%d) has %d bytes, %v", at, n, err)
		}
	}
	return data
}

func decompress(t *testing.T, c sink.Compression, data []byte) string {
	t.Helper()
	var in io.Reader = bytes.NewReader(data)
	var err error
	switch c {
	case sink.Gzip:
		in, err = gzip.NewReader(in)
	case sink.Zstd:
		in, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	}
	if err == nil {
		data, err = io.ReadAll(in)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// byTool returns what the tool that users have decompresses.
func byTool(t *testing.T, c sink.Compression, data []byte) string {
	t.Helper()
	tool := map[sink.Compression]string{sink.Uncompressed: "cat", sink.Gzip: "zcat", sink.Zstd: "zstdcat"}[c]
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("%s is not installed", tool)
	}
	cmd := exec.Command(path)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return string(out)
}

// TestFileHasWhatWasAppended: chunks of any size and large records are in the body, in order, and the
// tools that users have can read it.
func TestFileHasWhatWasAppended(t *testing.T) {
	folder := newFolder(t, t.TempDir())
	for _, c := range codecs {
		t.Run(string(c), func(t *testing.T) {
			f := folder.New(c)
			var want bytes.Buffer
			for i, n := range []int{10, 100, 30_000, 10, 40_000, 200_000, 1, 70_000, 5} {
				data := lines(n, i*10_000)
				want.Write(data)
				if err := f.Append(data); err != nil {
					t.Fatal(err)
				}
				if i == 3 {
					value := bytes.Repeat([]byte("large"), 100_000)
					want.Write(append(value, '\n'))
					if err := f.AppendLarge(t.Context(), sink.Raw, &sink.Record{Value: value}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := byTool(t, c, raw(t, f)); got != want.String() {
				t.Errorf("the body has %d bytes, want %d", len(got), want.Len())
			}
			if c == sink.Uncompressed && f.Size() != int64(want.Len()) || c != sink.Uncompressed && f.Size() >= int64(want.Len()/2) {
				t.Errorf("the size is %d of %d", f.Size(), want.Len())
			}
			f.Remove()
			if _, err := f.Open(); !errors.Is(err, sink.ErrReopen) {
				t.Errorf("open after Remove: %v", err)
			}
		})
	}
	if left := files(t, folder.path); len(left) != 1 { // its lock
		t.Errorf("the folder has %q", left)
	}
}

func files(t *testing.T, dir string) (names []string) {
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

// TestFailedAppendLeavesNothing: at each call that may fail, and with each size of chunks, an append
// has all or nothing, also if the part that was written cannot be truncated at once.
func TestFailedAppendLeavesNothing(t *testing.T) {
	folder := newFolder(t, t.TempDir())
	for _, c := range codecs {
		for _, size := range []int{100, 40_000, 150_000} {
			for _, room := range []int64{0, 5000} {
				for _, truncates := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s, chunks of %d, room for %d, truncates %t", c, size, room, truncates), func(t *testing.T) {
						fsys := disktest.NewFaultFS()
						f := folder.On(fsys).New(c)
						defer f.Remove()
						var want bytes.Buffer
						for i := range 5 {
							data := lines(size, i*100_000)
							if i == 2 || i == 4 {
								if !truncates {
									fsys.SetFault(func(op, _ string) error {
										if op == "truncate" {
											return syscall.EIO
										}
										return nil
									})
								}
								fsys.SetRoom(room)
								if err := f.Append(data); !Full(err) || errors.Is(err, sink.ErrReopen) || !strings.Contains(err.Error(), "free disk space") {
									if err == nil && int64(f.Spooled()) > 0 && room >= int64(size) { // it fits
										want.Write(data)
										fsys.SetRoom(-1)
										continue
									}
									t.Fatalf("append to a full disk: %v", err)
								}
								fsys.SetRoom(-1)
								fsys.SetFault(nil)
							}
							want.Write(data)
							if err := f.Append(data); err != nil {
								t.Fatal(err)
							}
						}
						if got := plain(t, f); got != want.String() {
							t.Errorf("the body has %d bytes, want %d", len(got), want.Len())
						}
					})
				}
			}
		}
	}
}

// TestErrorsOfNewFilesAreTheSame: each retry on a full disk has another file. It leaves no file, and
// its error is the same.
func TestErrorsOfNewFilesAreTheSame(t *testing.T) {
	root := t.TempDir()
	fsys := disktest.NewFaultFS()
	folder := newFolder(t, root).On(fsys)
	fsys.SetRoom(0)
	want := "write spool " + root + ": no space left on device; free disk space, the records stay in Kafka"
	for range 2 {
		f := folder.New(sink.Uncompressed)
		if err := f.Append(lines(100_000, 0)); err == nil || err.Error() != want {
			t.Errorf("append: %v, want %s", err, want)
		}
		f.Remove()
	}
	if files, err := filepath.Glob(filepath.Join(folder.path, "0*")); err != nil || len(files) > 0 {
		t.Errorf("the spool has %q, %v", files, err)
	}
}

// TestLostContentIsReported: an error that may have cost records wraps sink.ErrReopen, others do not.
func TestLostContentIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, f *File, fsys *disktest.FaultFS)
		lost  bool
	}{
		"removed":           {func(_ *testing.T, f *File, _ *disktest.FaultFS) { _ = os.Remove(f.path) }, true},
		"shortened":         {func(_ *testing.T, f *File, _ *disktest.FaultFS) { _ = os.Truncate(f.path, 3) }, true},
		"damaged disk":      {failing("write", syscall.EIO), true},
		"no permission":     {failing("open", syscall.EACCES), true},
		"too many files":    {failing("open", syscall.EMFILE), false},
		"full quota":        {failing("write", syscall.EDQUOT), false},
		"full disk at open": {failing("open", syscall.ENOSPC), false},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.NewFaultFS()
			f := newFolder(t, t.TempDir()).On(fsys).New(sink.Uncompressed)
			if err := f.Append(lines(100, 0)); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, f, fsys)
			if err := f.Append(lines(100, 0)); err == nil || errors.Is(err, sink.ErrReopen) != c.lost {
				t.Errorf("got %v, want a loss: %t", err, c.lost)
			}
		})
	}
	t.Run("folder was removed before the first record", func(t *testing.T) {
		folder := newFolder(t, t.TempDir())
		if err := os.RemoveAll(folder.path); err != nil {
			t.Fatal(err)
		}
		f := folder.New(sink.Zstd)
		if err := f.Append(lines(100, 0)); err != nil {
			t.Error(err)
		}
	})
	t.Run("shortened during the upload", func(t *testing.T) {
		f := newFolder(t, t.TempDir()).New(sink.Uncompressed)
		if err := f.Append(lines(1000, 0)); err != nil {
			t.Fatal(err)
		}
		b, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := os.Truncate(f.path, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(make([]byte, 500), 0); !errors.Is(err, sink.ErrReopen) || !errors.Is(b.Lost(), sink.ErrReopen) {
			t.Errorf("got %v, %v", err, b.Lost())
		}
	})
}

func failing(op string, err error) func(*testing.T, *File, *disktest.FaultFS) {
	return func(_ *testing.T, _ *File, fsys *disktest.FaultFS) {
		fsys.SetFault(func(o, _ string) error {
			if o == op {
				return err
			}
			return nil
		})
	}
}

// TestLargeRecordEndsWithItsContext: the pieces that were written are removed.
func TestLargeRecordEndsWithItsContext(t *testing.T) {
	folder := newFolder(t, t.TempDir())
	for _, c := range codecs {
		fsys := disktest.NewFaultFS()
		f := folder.On(fsys).New(c)
		if err := f.Append([]byte("before\n")); err != nil {
			t.Fatal(err)
		}
		paused := errors.New("paused")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(paused)
		record := &sink.Record{Value: bytes.Repeat([]byte("x"), 1<<20)}
		if err := f.AppendLarge(ctx, sink.Raw, record); !errors.Is(err, paused) || errors.Is(err, sink.ErrReopen) {
			t.Errorf("%s: got %v", c, err)
		}
		if err := f.Append([]byte("after\n")); err != nil {
			t.Fatal(err)
		}
		if got := plain(t, f); got != "before\nafter\n" {
			t.Errorf("%s: the body is %.40q", c, got)
		}
		f.Remove()
	}
}

// TestLeftoversAreRemoved: the folder of a process that has ended is removed. The folder of a running
// process, and files of other programs, are not.
func TestLeftoversAreRemoved(t *testing.T) {
	root := t.TempDir()
	folder := func(name string) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{processLock, "00000001.zst"} {
			if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	folder(folderPrefix + "1-dead")
	unlocked := folder(folderPrefix + "2-without-lock")
	if err := os.Remove(filepath.Join(unlocked, processLock)); err != nil {
		t.Fatal(err)
	}
	living := folder(folderPrefix + "3-living")
	lock, err := lockFile(filepath.Join(living, processLock), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	folder("of-something-else")
	if err := os.WriteFile(filepath.Join(root, folderPrefix+"file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, other := newFolder(t, root), newFolder(t, root)
	if f != other {
		t.Error("two sinks of a process have a folder each")
	}
	got := strings.Join(files(t, root), " ")
	for name, want := range map[string]bool{"1-dead": false, "2-without-lock": false, "3-living": true, "of-something-else": true, "spool-file": true, filepath.Base(f.path): true} {
		if strings.Contains(got, name) != want {
			t.Errorf("%s is there: %t, want %t", name, !want, want)
		}
	}
}

// TestCloseRemovesTheFolder: with the last sink of the process, the folder is removed.
func TestCloseRemovesTheFolder(t *testing.T) {
	root := t.TempDir()
	a, err := Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.New(sink.Gzip).Append(lines(100, 0)); err != nil {
		t.Fatal(err)
	}
	for i, f := range []*Folder{a, b} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(a.path); os.IsNotExist(err) != (i == 1) {
			t.Errorf("after %d of 2: %v", i+1, err)
		}
	}
}

func TestUnusableSpool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as spool: %v", err)
	}
	root := t.TempDir()
	lock, err := lockFile(filepath.Join(root, rootLock), os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, root); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a locked spool: %v", err)
	}
}

// TestFilesNeedNoDescriptors: files are closed between two appends, also with many partitions that
// write at the same time.
func TestFilesNeedNoDescriptors(t *testing.T) {
	fsys := &countingFS{FS: disk.OS{}}
	folder := newFolder(t, t.TempDir()).On(fsys)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			f := folder.New(sink.Zstd)
			for i := range 5 {
				if err := f.Append(lines(30_000, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if fsys.open != 0 || fsys.opened == 0 {
		t.Errorf("%d of %d files are open", fsys.open, fsys.opened)
	}
}

type countingFS struct {
	disk.FS
	mu           sync.Mutex
	open, opened int
}

func (c *countingFS) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	c.opened += max(n, 0)
}

func (c *countingFS) OpenFile(path string, flag int, perm os.FileMode) (disk.File, error) {
	f, err := c.FS.OpenFile(path, flag, perm)
	if err == nil {
		c.count(1)
		f = countedFile{f, c}
	}
	return f, err
}

type countedFile struct {
	disk.File
	fs *countingFS
}

func (f countedFile) Close() error {
	f.fs.count(-1)
	return f.File.Close()
}

// TestSpoolOfAnotherUser: a folder or link of another user is rejected where every user can create one,
// as in /tmp.
func TestSpoolOfAnotherUser(t *testing.T) {
	shared, own := t.TempDir(), t.TempDir()
	if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(shared, "link")
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{filepath.Join(shared, "folder"), link, filepath.Join(own, "folder")} {
		newFolder(t, root)
		if err := checkOwner(root, os.Getuid()); err != nil {
			t.Error(err)
		}
		err := checkOwner(root, os.Getuid()+1)
		if want := filepath.Dir(root) == shared; (err != nil) != want || want && !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("%s for another user: %v", root, err)
		}
	}
}
