// Package compress writes data as compressed frames, and finds the end of the last whole
// frame or line of a file.
//
// A compressed file is a sequence of frames (zstd) or members (gzip). Each frame holds whole
// records and is written at once, so the file can be truncated after any frame.
package compress

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/limits"
	"kcagent/sink"
)

// AppendFrame appends data to dst as one compressed frame.
func AppendFrame(c sink.Compression, dst, data []byte) []byte {
	switch c {
	case sink.Gzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		out := bytes.NewBuffer(dst)
		w.Reset(out)
		_, _ = w.Write(data) // a buffer returns no error
		_ = w.Close()
		return out.Bytes()
	case sink.Zstd:
		return zstdEncoder().EncodeAll(data, dst)
	}
	return append(dst, data...)
}

// The compressors use their fastest levels, which compress logs nearly as well as others.
// Slower levels make compression the bottleneck of two cores.
var (
	gzipWriters = sync.Pool{New: func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return w
	}}
	// zstdShared is one encoder for all sinks; it is safe for concurrent use.
	zstdShared atomic.Pointer[sharedEncoder]
	zstdMu     sync.Mutex // is held to replace it
)

// A sharedEncoder compresses up to calls frames at a time.
type sharedEncoder struct {
	*zstd.Encoder
	calls int
}

// zstdEncoder returns an encoder that compresses as many frames at a time as the process may use
// cores. Their number can grow while the process runs.
func zstdEncoder() *zstd.Encoder {
	cores := runtime.GOMAXPROCS(0)
	if e := zstdShared.Load(); e != nil && e.calls >= cores {
		return e.Encoder
	}
	zstdMu.Lock()
	defer zstdMu.Unlock()
	e := zstdShared.Load()
	if e == nil || e.calls < cores {
		e = &sharedEncoder{newZstdEncoder(cores), cores}
		zstdShared.Store(e)
	}
	return e.Encoder
}

func newZstdEncoder(concurrency int) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(concurrency), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// frameBytes is the largest number of bytes that are collected until a flush and compressed
// together; see [FrameSize].
const frameBytes = 128 << 10

// FrameSize returns frameBytes, or less if the memory limit requires it.
func FrameSize() int { return limits.Records.Buffer(frameBytes) }

// BigChunk returns the smallest size in bytes at which a chunk is a frame of its own, compressed
// without the lock of its file: half of a frame. It shrinks with the chunks; otherwise the shorter
// chunks of a file would be compressed one after the other, under its lock.
func BigChunk() int { return FrameSize() / 2 }

// A Frame is compressed records in a pooled buffer.
type Frame struct {
	Data []byte // nil for the zero Frame
	buf  *[]byte
}

var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// NewFrame returns data as one compressed frame. The caller calls Free when it is written.
func NewFrame(c sink.Compression, data []byte) Frame {
	f := Frame{buf: frameBuffers.Get().(*[]byte)}
	f.Data = AppendFrame(c, (*f.buf)[:0], data)
	return f
}

// Free returns the buffer to the pool.
func (f Frame) Free() {
	if f.buf != nil && cap(f.Data) <= 8*frameBytes {
		*f.buf = f.Data[:0]
		frameBuffers.Put(f.buf)
	}
}
