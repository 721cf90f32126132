package batch

import (
	"math/bits"
	"sync"

	"kcagent/limits"
)

// A Frame is the memory of one response: what came over the wire, and what of it
// was decompressed. Parts of many subscriptions lie in it; the last one that
// has been read gives it back. The owner of the frame
// guards the count of these parts.
type Frame struct {
	buf    []byte
	extras [][]byte
	refs   int
	size   int64 // see Size
	large  int64 // bytes of memory for large batches, in addition
	memory *limits.Memory
}

// Bytes returns what came over the wire.
func (fr *Frame) Bytes() []byte { return fr.buf }

// Size returns how many bytes of the budget the frame uses.
func (fr *Frame) Size() int64 { return fr.size }

// HoldsLarge reports whether the frame holds memory for large batches.
func (fr *Frame) HoldsLarge() bool { return fr.large > 0 }

// Retain counts one more part of the frame that is to be read.
func (fr *Frame) Retain() { fr.refs++ }

// Unref counts a part that was read or dropped, and reports whether it was the last one. The
// caller then releases the frame.
func (fr *Frame) Unref() (last bool) {
	fr.refs--
	return fr.refs <= 0
}

// InUse reports whether a part of the frame is to be read.
func (fr *Frame) InUse() bool { return fr.refs > 0 }

// Detach leaves what came over the wire to the garbage collector, instead of reusing it after
// Release.
func (fr *Frame) Detach() { fr.buf = nil }

func NewFrame(n int) *Frame {
	b := getBuffer(n)
	return &Frame{buf: b[:n], size: int64(cap(b))}
}

// Release gives the memory back. Nobody may hold a part of it any more.
func (fr *Frame) Release() {
	putBuffer(fr.buf)
	for _, b := range fr.extras {
		putBuffer(b)
	}
	fr.buf, fr.extras = nil, nil
	if fr.large > 0 {
		fr.memory.Release(fr.large)
		fr.large = 0
	}
}

// Buffers are kept by size between uses: fresh memory for each response would have to be
// zeroed, collected, and fetched from the main memory. There are four sizes for each power
// of two, so that at most a quarter of a buffer is unused. Larger buffers are allocated
// exactly and not kept. The garbage collector empties the pools.
const (
	leastBuffer = 12 // 4 KiB
	mostBuffer  = 24 // 16 MiB
)

var pools [4*(mostBuffer-leastBuffer) + 1]sync.Pool

// bufferClass returns the smallest class of buffers with room for n bytes, and its size.
func bufferClass(n int) (class, size int) {
	if n <= 1<<leastBuffer {
		return 0, 1 << leastBuffer
	}
	power := bits.Len(uint(n-1)) - 1 // n is above this power of two, and not above the next
	quarter := 1 << (power - 2)
	steps := (n - 1<<power + quarter - 1) / quarter
	return 4*(power-leastBuffer) + steps, 1<<power + steps*quarter
}

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) []byte {
	class, size := bufferClass(n)
	if class >= len(pools) {
		return make([]byte, 0, n)
	}
	if b, ok := pools[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

func putBuffer(b []byte) {
	if cap(b) < 1<<leastBuffer {
		return
	}
	class, size := bufferClass(cap(b))
	if class >= len(pools) || cap(b) != size {
		return
	}
	b = b[:0]
	pools[class].Put(&b)
}
