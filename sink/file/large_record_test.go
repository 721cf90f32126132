package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/file/disk/disktest"
)

// TestLargeRecordIsOneChunk checks that a large record is complete and in order, in each
// format and compression, and that no memory is allocated for its encoded form.
func TestLargeRecordIsOneChunk(t *testing.T) {
	for _, format := range []sink.Format{sink.Raw, sink.JSON} {
		for _, c := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
			for _, d := range []sink.Delivery{sink.ExactlyOnce, sink.AtLeastOnce} {
				t.Run(fmt.Sprintf("%s/%s/%s", format, c, d), func(t *testing.T) {
					path := filepath.Join(t.TempDir(), "out.log")
					spec := fileSpec(path)
					spec.File.Format, spec.File.Compression, spec.File.Delivery = format, c, d
					s, err := openWith(t.Context(), spec, testOptions{Group: "g"})
					if err != nil {
						t.Fatal(err)
					}
					resume(t, s, 0)
					mustWrite(t, s, records(0, 0, 3))
					written := append(records(0, 0, 3), writeLargeRecords(t, s, 3)...)
					end := records(0, len(written), 3)
					mustWrite(t, s, end)
					mustFlush(t, s)
					mustClose(t, s)
					encoders, _ := encode.For(format)
					encoder := encoders(sink.TopicPartition{Topic: "orders"})
					var want []byte
					for _, r := range append(written, end...) {
						want = encoder.Append(want, &r)
					}
					if got := unpack(t, c, []byte(readFile(t, path))); got != string(want) {
						t.Errorf("the file has %d bytes, want %d", len(got), len(want))
					}
				})
			}
		}
	}
}

// writeLargeRecords writes a record of 8 MiB, and checks that this allocates no more than a new
// compressor needs. If more was allocated, it may have been by something else in the process, so
// writeLargeRecords writes another record. It returns the records.
func writeLargeRecords(t *testing.T, s sink.Sink, offset int) (written []sink.Record) {
	t.Helper()
	const size, most = 8 << 20, 4 << 20
	text := "a value with \"quotes\", "
	for {
		r := records(0, offset+len(written), 1)[0]
		r.Value = []byte(strings.Repeat(text, size/len(text)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := writeLarge(t.Context(), s, &r); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		written = append(written, r)
		n := after.TotalAlloc - before.TotalAlloc
		if n <= most {
			return written
		}
		if len(written) == 5 {
			t.Errorf("%d bytes were allocated", n)
			return written
		}
	}
}

// TestCancelledLargeRecordLeavesNothing checks that nothing of a record stays in the file if
// the context ends between two pieces.
func TestCancelledLargeRecordLeavesNothing(t *testing.T) {
	paused := errors.New("the consumer is paused")
	large := records(0, 0, 1)
	large[0].Value = bytes.Repeat([]byte("x"), 1<<20)
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		fs := disktest.NewMemoryFS()
		s, err := openWith(t.Context(), sink.Spec{File: &sink.FileSpec{Path: "/d/out.log", Format: sink.Raw, Compression: c, Delivery: sink.AtLeastOnce, Durability: sink.Fsync}}, testOptions{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, s, records(0, 0, 1))
		mustFlush(t, s)
		size := len(fs.Files["/d/out.log"].Data)
		ctx, cancel := context.WithCancelCause(t.Context())
		value := make([]byte, 1<<20)
		random := rand.New(rand.NewPCG(1, 1))
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		large[0].Value = value
		writes := 0
		fs.Fault = func() error {
			if writes++; writes == 2 {
				cancel(paused)
			}
			return nil
		}
		if err := writeLarge(ctx, s, &large[0]); !errors.Is(err, paused) {
			t.Errorf("%s: got %v after %d writes", c, err, writes)
		}
		fs.Fault = nil
		if got := len(fs.Files["/d/out.log"].Data); got != size {
			t.Errorf("%s: the file has %d bytes, want %d", c, got, size)
		}
		mustWrite(t, s, records(0, 1, 1))
		mustClose(t, s)
		if got := unpack(t, c, fs.Files["/d/out.log"].Data); got != lines(want(0, 0, 2)) {
			t.Errorf("%s: the file holds %.100q", c, got)
		}
	}
}

// TestCancelledCompressibleLargeRecord checks that a cancelled write ends although its
// pieces are compressed to nothing, so that no write notices the context.
func TestCancelledCompressibleLargeRecord(t *testing.T) {
	paused := errors.New("the consumer is paused")
	large := records(0, 0, 1)
	large[0].Value = make([]byte, 512<<10) // several pieces
	for _, c := range []sink.Compression{sink.Gzip, sink.Zstd} {
		fs := disktest.NewMemoryFS()
		s, err := openWith(t.Context(), sink.Spec{File: &sink.FileSpec{Path: "/d/out.log", Format: sink.JSON, Compression: c, Delivery: sink.ExactlyOnce, Durability: sink.Fsync}}, testOptions{FS: fs, Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resume(t.Context(), sink.TopicPartition{Topic: "orders", Partition: 0}, nil); err != nil {
			t.Fatal(err)
		}
		mustFlush(t, s)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(paused)
		if err := writeLarge(ctx, s, &large[0]); !errors.Is(err, paused) {
			t.Errorf("%s: got %v", c, err)
		}
		if got := len(fs.Files["/d/out.log"].Data); got != 0 {
			t.Errorf("%s: the file has %d bytes", c, got)
		}
		mustClose(t, s)
	}
}

// writeLarge writes one record in pieces, and sometimes cancels it between two of them.
func (s *history) writeLarge(p int) {
	paused := errors.New("the consumer is paused")
	r := records(int32(p), s.at[p], 1)[0]
	r.Value = append(r.Value, padding...)
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	if s.random.IntN(3) == 0 {
		left, before := s.random.IntN(4), s.setFault(nil)
		defer func() { s.setFault(before) }()
		s.setFault(func() error {
			if left--; left < 0 {
				cancel(paused)
			}
			if before == nil {
				return nil
			}
			return before()
		})
	}
	if err := writeLarge(ctx, s.sink, &r); !errors.Is(err, paused) && !errors.Is(err, context.Canceled) {
		s.wrote(p, 1, err)
	}
}
