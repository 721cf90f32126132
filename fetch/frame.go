package fetch

import (
	"math/bits"
	"sync"
)

// A frame is the memory of one response: what came over the wire, and what of it
// was decompressed. Parts of many subscriptions lie in it; the last one that
// has been read gives it back. f.mu guards refs.
type frame struct {
	buf    []byte
	extras [][]byte
	refs   int
	size   int64 // bytes that the budget counts
}

func newFrame(n int) *frame {
	b := getBuffer(n)
	return &frame{buf: b[:n], size: int64(cap(b))}
}

// add makes a decompressed buffer part of the frame.
func (fr *frame) add(b []byte) {
	fr.extras = append(fr.extras, b)
	fr.size += int64(cap(b))
}

// release gives the memory back. Nobody may hold a part of it any more.
func (fr *frame) release() {
	putBuffer(fr.buf)
	for _, b := range fr.extras {
		putBuffer(b)
	}
	fr.buf, fr.extras = nil, nil
}

// Buffers are kept by powers of two between uses: fresh memory for each response
// would have to be zeroed, collected, and fetched from the main memory. The
// garbage collector empties the pools.
const (
	leastBuffer = 12 // 4 KiB
	mostBuffer  = 27 // 128 MiB
)

var pools [mostBuffer + 1]sync.Pool

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) []byte {
	class := max(leastBuffer, bits.Len(uint(max(n, 1)-1)))
	if class > mostBuffer {
		return make([]byte, 0, n)
	}
	if b, ok := pools[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<class)
}

func putBuffer(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < leastBuffer || class > mostBuffer || cap(b) != 1<<class {
		return
	}
	b = b[:0]
	pools[class].Put(&b)
}
