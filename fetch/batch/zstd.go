package batch

import (
	"bytes"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"kcagent/buffers"
)

var (
	// zstdShared is the decoder of all batches that are not large, because DecodeAll may be called
	// concurrently. How much it writes is limited before it is called.
	zstdShared atomic.Pointer[sharedDecoder]
	zstdMu     sync.Mutex // is held to replace it
	// zstdReaders only count decompressed bytes. They hold a window, not the content.
	zstdReaders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(2*maxPooled), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	}}
)

// A sharedDecoder decodes up to calls batches at a time.
type sharedDecoder struct {
	*zstd.Decoder
	calls int
}

// zstdDecoder returns a decoder that decodes as many batches at a time as the process may use cores.
// Their number can grow while the process runs.
func zstdDecoder() *zstd.Decoder {
	cores := runtime.GOMAXPROCS(0)
	if d := zstdShared.Load(); d != nil && d.calls >= cores {
		return d.Decoder
	}
	zstdMu.Lock()
	defer zstdMu.Unlock()
	d := zstdShared.Load()
	if d == nil || d.calls < cores {
		d = &sharedDecoder{newZstdDecoder(cores), cores}
		zstdShared.Store(d)
	}
	return d.Decoder
}

func newZstdDecoder(concurrency int) *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(concurrency), zstd.WithDecoderMaxMemory(math.MaxInt32), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}

// decompressZstd decompresses into a buffer that DecodeAll does not have to enlarge: a zstd frame
// has its decompressed size, or at least the number of its blocks, in its headers.
func decompressZstd(src []byte, limit int64, m room) ([]byte, error) {
	size, exact, err := zstdSize(src)
	if err != nil {
		return nil, err
	}
	if size <= maxPooled {
		if exact {
			size += zstdSlack
		} else {
			size = min(size, 4*int64(len(src)))
		}
		dst, err := m.get(int(size), 0)
		if err != nil {
			return nil, err
		}
		out, err := zstdDecoder().DecodeAll(src, dst)
		if cap(out) != cap(dst) {
			buffers.Put(dst)
		}
		if err == nil && int64(len(out)) > limit {
			err = &sizeError{size: int64(len(out))}
		}
		return out, err
	}
	if !exact {
		if size, err = countZstd(src, size, limit); err != nil {
			return nil, err
		}
	}
	if size > limit {
		return nil, &sizeError{size: size}
	}
	if err := m.reserve(size); err != nil {
		return nil, err
	}
	// A decoder of its own, because a decoder keeps what it has written last.
	d := newZstdDecoder(1)
	defer d.Close()
	return d.DecodeAll(src, make([]byte, 0, size))
}

// countZstd returns the decompressed size. If the window of the frame is itself large, it returns
// the upper bound instead.
func countZstd(src []byte, bound, limit int64) (int64, error) {
	r := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return 0, err
	}
	defer func() { _ = r.Reset(nil) }()
	scratch := buffers.Get(64 << 10)
	defer buffers.Put(scratch)
	size, err := count(r, scratch[:cap(scratch)], 0, limit)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return bound, nil
	}
	return size, err
}

// zstdBlock is how much one block of a zstd frame holds at limit (RFC 8878, section 3.1.1.2).
const zstdBlock = 128 << 10

// zstdSlack is how many bytes the decoder writes past the end of a buffer that has room for them,
// which is faster.
const zstdSlack = 16

// errZstdSize reports a zstd frame whose header claims more than its blocks can hold. The decoder
// would allocate as much as it claims.
var errZstdSize = errors.New("invalid zstd frame: shorter than the size in its header")

// zstdSize returns how large frames are when they are decompressed: exactly, or at limit. It
// returns 0 if src is not a sequence of zstd frames, which the decoder reports.
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
			case 0: // not compressed
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
