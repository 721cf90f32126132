package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxInflated bounds a decompressed batch of records, which a few bytes could
// make as large as they like.
const maxInflated = 128 << 20

var errInflated = fmt.Errorf("a batch of records is larger than the hard limit of %d bytes when it is decompressed", maxInflated)

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}

	// One is enough: DecodeAll may be called by many at once.
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxInflated), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)

// inflate decompresses src into a buffer of the pools.
func inflate(codec sarama.CompressionCodec, src []byte) ([]byte, error) {
	switch codec {
	case sarama.CompressionGZIP:
		r := gzipReaders.Get().(*gzip.Reader)
		defer gzipReaders.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return nil, err
		}
		return readAll(r, len(src))
	case sarama.CompressionLZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(r)
		r.Reset(bytes.NewReader(src))
		return readAll(r, len(src))
	case sarama.CompressionSnappy:
		return inflateSnappy(src)
	case sarama.CompressionZSTD:
		dst := getBuffer(min(4*len(src), maxInflated))
		out, err := zstdDecoder().DecodeAll(src, dst)
		if cap(out) != cap(dst) {
			putBuffer(dst)
		}
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			err = errInflated
		}
		return out, err
	}
	return nil, fmt.Errorf("compression codec %d is unknown", codec)
}

// readAll reads r into a buffer of the pools, n being the compressed size.
func readAll(r io.Reader, n int) ([]byte, error) {
	b := getBuffer(min(4*n, maxInflated))
	for {
		if len(b) == cap(b) {
			if len(b) > maxInflated {
				putBuffer(b)
				return nil, errInflated
			}
			larger := append(getBuffer(2*cap(b)), b...)
			putBuffer(b)
			b = larger
		}
		got, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+got]
		switch {
		case errors.Is(err, io.EOF) && len(b) <= maxInflated:
			return b, nil
		case errors.Is(err, io.EOF):
			err = errInflated
			fallthrough
		case err != nil:
			putBuffer(b)
			return nil, err
		}
	}
}

func inflateSnappy(src []byte) ([]byte, error) {
	for size := 4 * len(src); ; size *= 2 {
		dst := getBuffer(min(size, maxInflated))
		out, err := xerial.DecodeCapped(dst, src)
		if err == nil {
			return out, nil
		}
		putBuffer(dst)
		switch {
		case !errors.Is(err, xerial.ErrDstTooSmall):
			return nil, err
		case size >= maxInflated:
			return nil, errInflated
		}
	}
}
