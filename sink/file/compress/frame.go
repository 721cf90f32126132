// Package compress writes data as compressed frames, and finds the end of the last whole frame
// or line of a file.
//
// A compressed file is a row of frames (zstd) or members (gzip). Each frame holds whole records
// and is written at once, so the file can be cut after any frame.
package compress

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/limits"
	"kcagent/sink"
)

// A compressed file is a row of frames (zstd) or members (gzip), each of whole
// records and each written at once, so that it can be cut after any of them.

// AppendFrame appends data, compressed, as one complete frame.
func AppendFrame(c sink.Compression, dst, data []byte) []byte {
	switch c {
	case sink.Gzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		out := bytes.NewBuffer(dst)
		w.Reset(out)
		_, _ = w.Write(data) // a buffer does not fail
		_ = w.Close()
		return out.Bytes()
	case sink.Zstd:
		return zstdEncoder().EncodeAll(data, dst)
	}
	return append(dst, data...)
}

// Speed comes first: a faster level compresses logs nearly as well, and the
// others make compression the bottleneck of two cores.
var (
	gzipWriters = sync.Pool{New: func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return w
	}}
	// One encoder serves all sinks; it is safe for concurrent use.
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
)

// Records wait until they are frameBytes, or for a Flush, to be compressed
// together (see frameSize); a chunk of bigChunk is a frame of its own, which is made beside the
// others of the consumer.
const (
	frameBytes = 128 << 10
	BigChunk   = 64 << 10
)

// FrameSize is frameBytes, or less where the memory limit requires it.
func FrameSize() int { return limits.Records.Buffer(frameBytes) }

// A Frame is compressed records, in memory that is used again.
type Frame struct {
	Data []byte // nil if there is none
	buf  *[]byte
}

var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

func NewFrame(c sink.Compression, data []byte) Frame {
	f := Frame{buf: frameBuffers.Get().(*[]byte)}
	f.Data = AppendFrame(c, (*f.buf)[:0], data)
	return f
}

func (f Frame) Free() {
	if f.buf != nil && cap(f.Data) <= 8*frameBytes {
		*f.buf = f.Data[:0]
		frameBuffers.Put(f.buf)
	}
}
