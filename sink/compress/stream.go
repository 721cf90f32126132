package compress

import (
	"bufio"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/sink"
)

// streamBuffer is how many compressed bytes are written at once.
const streamBuffer = 128 << 10

// StreamFrame writes pieces to w, compressed as one frame. It does not need memory for all
// of them.
func StreamFrame(c sink.Compression, w io.Writer, pieces func(put func([]byte) error) error) error {
	if c == sink.Uncompressed {
		return pieces(func(b []byte) error { _, err := w.Write(b); return err })
	}
	out := bufio.NewWriterSize(w, streamBuffer)
	var z io.WriteCloser
	if c == sink.Gzip {
		compressor := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(compressor)
		defer compressor.Reset(io.Discard)
		compressor.Reset(out)
		z = compressor
	} else {
		compressor := zstdWriters.Get().(*zstd.Encoder)
		defer zstdWriters.Put(compressor)
		defer compressor.Reset(nil)
		compressor.Reset(out)
		z = compressor
	}
	if err := pieces(func(b []byte) error { _, err := z.Write(b); return err }); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// zstdWriters compress data that is not in memory as a whole.
var zstdWriters = sync.Pool{New: func() any { return newZstdEncoder(1) }}
