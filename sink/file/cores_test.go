package file

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk"
)

const cores = 8

// useEightCores lets the process use eight cores until the test ends.
func useEightCores(t *testing.T) {
	was := runtime.GOMAXPROCS(cores)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// A barrier lets the first calls of wait return once there are as many as cores.
type barrier struct {
	*testing.T
	inside atomic.Int32
	once   sync.Once
	all    chan struct{}
}

func newBarrier(t *testing.T) *barrier { return &barrier{T: t, all: make(chan struct{})} }

func (b *barrier) wait() {
	if b.inside.Add(1) == cores {
		b.once.Do(func() { close(b.all) })
	}
	select {
	case <-b.all:
	case <-time.After(2 * time.Minute):
		b.Errorf("%d calls at the same time, want %d", b.inside.Load(), cores)
		b.once.Do(func() { close(b.all) })
	}
}

// writeConcurrently writes some chunks of eight partitions, each in a goroutine of its own, and
// flushes them. It returns the records by partition.
func writeConcurrently(t *testing.T, s sink.Sink, chunkBytes int) (of [cores][]string) {
	const chunks = 3
	each := chunkBytes / 1000
	var wg sync.WaitGroup
	for p := range of {
		all := longRecords(int32(p), 0, each*chunks)
		for i := range all {
			of[p] = append(of[p], string(all[i].Value))
		}
		wg.Go(func() {
			for chunk := range slices.Chunk(all, each) {
				if err := write(t.Context(), s, chunk); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustFlush(t, s)
	return of
}

// longRecords returns n records of a partition, with values of 1,010 bytes.
func longRecords(partition int32, from, n int) []sink.Record {
	recs := records(partition, from, n)
	for i := range recs {
		recs[i].Value = append(recs[i].Value, bytes.Repeat([]byte("."), 1000)...)
	}
	return recs
}

// TestChunksOfOneFileAreCompressedConcurrently: eight partitions that share a file compress eight
// chunks at the same time, and the file has the records of each partition once and in order. A
// memory limit makes chunks shorter.
func TestChunksOfOneFileAreCompressedConcurrently(t *testing.T) {
	useEightCores(t)
	for _, c := range []sink.Compression{sink.Gzip, sink.Zstd} {
		for _, limit := range []int64{0, 1 << 20} {
			t.Run(fmt.Sprintf("%s, limit of %d", c, limit), func(t *testing.T) {
				limits.Records.SetLimit(limit)
				count := limits.Records.CountBuffers()
				count.Set(1000)
				defer func() {
					count.Close()
					limits.Records.SetLimit(0)
				}()
				path, b := filepath.Join(t.TempDir(), "out.log"), newBarrier(t)
				spec := exactSpec(path)
				spec.File.Compression = c
				s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g"})
				if err != nil {
					t.Fatal(err)
				}
				s.(*fileSink).env.NewFrame = func(c sink.Compression, data []byte) compress.Frame {
					b.wait()
					return compress.NewFrame(c, data)
				}
				want := writeConcurrently(t, s, compress.FrameSize())
				mustClose(t, s)
				if n := b.inside.Load(); n < cores {
					t.Errorf("%d chunks were compressed without the lock", n)
				}
				got := values(t, sink.Raw, decompressed(t, c, path))
				for p := range want {
					equal(t, ofPartition(got, int32(p)), want[p])
				}
			})
		}
	}
}

// decompressed returns the content of a compressed file.
func decompressed(t *testing.T, c sink.Compression, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader
	if c == sink.Gzip {
		r, err = gzip.NewReader(bytes.NewReader(raw))
	} else {
		r, err = zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestFilesAreWrittenConcurrently: with a file for each partition, eight system calls write to eight
// files at the same time.
func TestFilesAreWrittenConcurrently(t *testing.T) {
	useEightCores(t)
	dir, b := t.TempDir(), newBarrier(t)
	s, err := openWith(t.Context(), exactSpec(filepath.Join(dir, "{partition}.log")), testOptions{Consumer: "c", Group: "g", FS: blockingFS{disk.OS{}, b}})
	if err != nil {
		t.Fatal(err)
	}
	want := writeConcurrently(t, s, 128<<10)
	mustClose(t, s)
	for p := range want {
		equal(t, values(t, sink.Raw, readFile(t, filepath.Join(dir, fmt.Sprintf("%d.log", p)))), want[p])
	}
}

// A blockingFS has data files whose writes wait at a barrier.
type blockingFS struct {
	disk.FS
	b *barrier
}

func (f blockingFS) OpenFile(path string, flag int, perm fs.FileMode) (disk.File, error) {
	file, err := f.FS.OpenFile(path, flag, perm)
	if err != nil || !strings.HasSuffix(path, ".log") {
		return file, err
	}
	return blockingFile{file, f.b}, nil
}

type blockingFile struct {
	disk.File
	b *barrier
}

func (f blockingFile) Write(p []byte) (int, error) {
	f.b.wait()
	return f.File.Write(p)
}

// TestPendingRecordsFitTheMemoryLimit: the records that files collect until a flush use a sixteenth of
// the memory limit, and a few KiB for each file. Nothing is counted once they are written.
func TestPendingRecordsFitTheMemoryLimit(t *testing.T) {
	const limit, files, chunks = 1 << 20, 16, 10
	limits.Records.SetLimit(limit)
	t.Cleanup(func() { limits.Records.SetLimit(0) })
	dir := t.TempDir()
	spec := exactSpec(filepath.Join(dir, "{partition}.log"))
	spec.File.Compression = sink.Zstd
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	const each = 3
	before := limits.Records.Pending() // of sinks that other tests have abandoned, as in a crash
	most := before
	for n := range chunks {
		for p := range files {
			mustWrite(t, s, longRecords(int32(p), n*each, each))
			most = max(most, limits.Records.Pending())
		}
	}
	if allowed := int64(limit/16 + files*8<<10); most > before+allowed || most < limit/16 {
		t.Errorf("%d bytes were collected, want %d at most", most, allowed)
	}
	mustFlush(t, s)
	if n := limits.Records.Pending() - before; n != 0 {
		t.Errorf("%d bytes count after a flush", n)
	}
	mustWrite(t, s, longRecords(0, chunks*each, 1))
	mustClose(t, s)
	if n := limits.Records.Pending() - before; n != 0 {
		t.Errorf("%d bytes count after the end", n)
	}
	for p := range files {
		got := values(t, sink.Raw, decompressed(t, sink.Zstd, filepath.Join(dir, fmt.Sprintf("%d.log", p))))
		if n := chunks * each; len(got) != n && (p > 0 || len(got) != n+1) {
			t.Errorf("file %d has %d records", p, len(got))
		}
	}
}

// TestChunksStayInOrderWhileOthersCollect: what other files collect may exceed the limit, or fall
// below it, at any moment while a chunk is added to a compressed file. Records of an earlier chunk,
// which wait for a flush, are written first. The race detector makes such moments frequent.
func TestChunksStayInOrderWhileOthersCollect(t *testing.T) {
	useEightCores(t)
	const limit, chunk = 64 << 20, 128 << 10
	limits.Records.SetLimit(limit)
	t.Cleanup(func() { limits.Records.SetLimit(0) })
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		const most = limit/16 - chunk + chunk/4
		limits.Records.AddPending(most)
		defer limits.Records.AddPending(-most)
		for {
			select {
			case <-stop:
				return
			default:
				limits.Records.AddPending(chunk)
				limits.Records.AddPending(-chunk)
			}
		}
	})
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Compression, spec.File.Durability = sink.Zstd, sink.None
	s, err := openWith(t.Context(), spec, testOptions{Consumer: "c", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	const chunks, each = 2000, 5
	for i := range chunks {
		mustWrite(t, s, longRecords(0, i*each, each))
	}
	close(stop)
	others.Wait()
	mustFlush(t, s)
	mustClose(t, s)
	got, want := values(t, sink.Raw, decompressed(t, sink.Zstd, path)), longRecords(0, 0, chunks*each)
	if len(got) != len(want) {
		t.Fatalf("the file has %d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != string(want[i].Value) {
			t.Fatalf("record %d is %.20q, want %.20q", i, got[i], want[i].Value)
		}
	}
}
