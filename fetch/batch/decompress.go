package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// smallBatch is the largest decompressed size for which a growing buffer is used. The size
// of a larger batch is determined first, so that its buffer has exactly that size.
const smallBatch = 4 << 20

// A sizeError reports that a decompressed batch is larger than allowed.
type sizeError struct {
	size  int64
	least bool // a lower bound: the rest was not counted
	total bool // with the response that it came in
}

func (e *sizeError) Error() string {
	return fmt.Sprintf("decompressed batch has %d bytes, more than allowed", e.size)
}

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}

	// One is enough: DecodeAll may be called concurrently. How much it may write is checked
	// before it is called.
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder { return newZstdDecoder(0) })
	// These only count: they hold a window, not the content.
	zstdReaders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(2*smallBatch), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	}}
)

func newZstdDecoder(concurrency int) *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(concurrency), zstd.WithDecoderMaxMemory(math.MaxInt32), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}

// inflate decompresses src into a buffer, which is one of the pools if it is small. The
// memory for a larger one is asked for first: need is called with its size, and its error
// ends inflate. A batch of more than most bytes is a [*sizeError].
func inflate(codec sarama.CompressionCodec, src []byte, most int64, need func(int64) error) ([]byte, error) {
	switch codec {
	case sarama.CompressionGZIP:
		r := gzipReaders.Get().(*gzip.Reader)
		if len(src) <= smallBatch {
			defer gzipReaders.Put(r) // else it would keep src
		}
		return readAll(r, func() error { return r.Reset(bytes.NewReader(src)) }, len(src), most, need)
	case sarama.CompressionLZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		if len(src) <= smallBatch {
			defer lz4Readers.Put(r)
		}
		return readAll(r, func() error { r.Reset(bytes.NewReader(src)); return nil }, len(src), most, need)
	case sarama.CompressionSnappy:
		return inflateSnappy(src, most, need)
	case sarama.CompressionZSTD:
		return inflateZstd(src, most, need)
	}
	return nil, fmt.Errorf("compression codec %d is unknown", codec)
}

// readAll reads r to the end, n being the compressed size. A large batch is read twice: the
// first time only to count its bytes.
func readAll(r io.Reader, reset func() error, n int, most int64, need func(int64) error) ([]byte, error) {
	if err := reset(); err != nil {
		return nil, err
	}
	b := getBuffer(min(4*n, smallBatch))
	for len(b) < smallBatch {
		if len(b) == cap(b) {
			larger := append(getBuffer(2*cap(b)), b...)
			putBuffer(b)
			b = larger
		}
		got, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+got]
		switch {
		case errors.Is(err, io.EOF) && int64(len(b)) <= most:
			return b, nil
		case errors.Is(err, io.EOF):
			err = &sizeError{size: int64(len(b))}
			fallthrough
		case err != nil:
			putBuffer(b)
			return nil, err
		}
	}
	size, err := count(r, b[:cap(b)], int64(len(b)), most)
	putBuffer(b)
	if err != nil {
		return nil, err
	}
	if err := need(size); err != nil {
		return nil, err
	}
	if err := reset(); err != nil {
		return nil, err
	}
	b = make([]byte, size)
	_, err = io.ReadFull(r, b)
	return b, err
}

// count counts the bytes of r, of which size were read, up to the first that is too much.
func count(r io.Reader, scratch []byte, size, most int64) (int64, error) {
	for size <= most {
		n, err := r.Read(scratch)
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF) && size <= most:
			return size, nil
		case errors.Is(err, io.EOF):
			return 0, &sizeError{size: size}
		case err != nil:
			return 0, err
		}
	}
	return 0, &sizeError{size: size, least: true}
}

// inflateZstd decompresses into a buffer that DecodeAll does not have to enlarge: a zstd
// frame has its size, or at least the number of its blocks.
func inflateZstd(src []byte, most int64, need func(int64) error) ([]byte, error) {
	size, exact, err := zstdSize(src)
	if err != nil {
		return nil, err
	}
	if size <= smallBatch {
		if exact {
			size += zstdSlack
		} else {
			size = min(size, 4*int64(len(src)))
		}
		dst := getBuffer(int(size))
		out, err := zstdDecoder().DecodeAll(src, dst)
		if cap(out) != cap(dst) {
			putBuffer(dst)
		}
		if err == nil && int64(len(out)) > most {
			err = &sizeError{size: int64(len(out))}
		}
		return out, err
	}
	if !exact {
		if size, err = countZstd(src, size, most); err != nil {
			return nil, err
		}
	}
	if size > most {
		return nil, &sizeError{size: size}
	}
	if err := need(size); err != nil {
		return nil, err
	}
	// A decoder keeps what it has written last.
	d := newZstdDecoder(1)
	defer d.Close()
	return d.DecodeAll(src, make([]byte, 0, size))
}

// countZstd decompresses to count. With a window that would be large itself, the upper bound
// counts.
func countZstd(src []byte, bound, most int64) (int64, error) {
	r := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return 0, err
	}
	defer func() { _ = r.Reset(nil) }()
	scratch := getBuffer(64 << 10)
	defer putBuffer(scratch)
	size, err := count(r, scratch[:cap(scratch)], 0, most)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return bound, nil
	}
	return size, err
}

// zstdBlock is how much one block of a zstd frame holds at most (RFC 8878, section 3.1.1.2).
const zstdBlock = 128 << 10

// zstdSlack is how many bytes the decoder may write past the end, which is faster.
const zstdSlack = 16

// errZstdSize means that a zstd frame claims more than its blocks can hold. The decoder would
// allocate as much as it claims.
var errZstdSize = errors.New("a zstd frame is shorter than the size in its header")

// zstdSize returns how large frames are when they are decompressed: exactly, or at most. Of
// what is no zstd frame it returns 0, for the decoder reports that.
func zstdSize(src []byte) (size int64, exact bool, err error) {
	exact = true
	for len(src) > 0 {
		var h zstd.Header
		if h.Decode(src) != nil {
			return size, exact, nil
		}
		if h.Skippable {
			src = src[min(len(src), h.HeaderSize+int(h.SkippableSize)):]
			continue
		}
		src = src[h.HeaderSize:]
		bound, last := int64(0), false
		for !last && len(src) >= 3 {
			block := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
			length, kind := block>>3, block>>1&3
			last = block&1 != 0
			switch kind {
			case 0: // as it is
				bound += int64(length)
			case 1: // one byte, repeated
				bound, length = bound+int64(length), 1
			default:
				bound += zstdBlock
			}
			src = src[min(len(src), 3+length):]
		}
		if h.HasCheckSum {
			src = src[min(len(src), 4):]
		}
		switch {
		case !h.HasFCS:
			size, exact = size+bound, false
		case h.FrameContentSize > uint64(bound):
			return 0, false, errZstdSize
		default:
			size += int64(h.FrameContentSize)
		}
	}
	return size, exact, nil
}

// inflateSnappy decompresses snappy, whose header has the size.
func inflateSnappy(src []byte, most int64, need func(int64) error) ([]byte, error) {
	size, err := snappySize(src)
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, &sizeError{size: size}
	}
	var dst []byte
	if size <= smallBatch {
		dst = getBuffer(int(size))
	} else {
		if err := need(size); err != nil {
			return nil, err
		}
		dst = make([]byte, 0, size)
	}
	out, err := xerial.DecodeCapped(dst, src)
	if err != nil {
		putBuffer(dst)
		return nil, err
	}
	return out, nil
}

// snappySize returns how large a block, or the blocks in the framing of Kafka's Java client,
// are when they are decompressed.
func snappySize(src []byte) (size int64, err error) {
	const header, most = 16, 64 // a block is compressed to a sixty-fourth at best
	compressed := int64(len(src))
	if len(src) < header || string(src[:8]) != "\x82SNAPPY\x00" {
		n, err := s2.DecodedLen(src)
		size = int64(n)
		if err != nil || size > most*compressed {
			return 0, xerial.ErrMalformed
		}
		return size, nil
	}
	for src = src[header:]; len(src) >= 4; {
		length := int(src[0])<<24 | int(src[1])<<16 | int(src[2])<<8 | int(src[3])
		if src = src[4:]; length > len(src) {
			return 0, xerial.ErrMalformed
		}
		n, err := s2.DecodedLen(src[:length])
		if err != nil {
			return 0, xerial.ErrMalformed
		}
		size += int64(n)
		src = src[length:]
	}
	if size > most*compressed {
		return 0, xerial.ErrMalformed
	}
	return size, nil
}
