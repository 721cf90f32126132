package batch

import (
	"math/bits"
	"sync"
)

// Buffers are reused, in pools by size: new memory for each response would have to be zeroed
// and collected, and would not be in the processor's cache. There are four sizes for each
// power of two, so that at most a quarter of a buffer is unused. Larger buffers have the exact
// size and are not reused. The garbage collector empties the pools.
const (
	minBufferBits = 12 // 4 KiB
	maxBufferBits = 24 // 16 MiB
)

var pools [4*(maxBufferBits-minBufferBits) + 1]sync.Pool

// bufferClass returns the smallest class of buffers with room for n bytes, and its size.
func bufferClass(n int) (class, size int) {
	if n <= 1<<minBufferBits {
		return 0, 1 << minBufferBits
	}
	power := bits.Len(uint(n-1)) - 1 // n is above this power of two, and not above the next one
	quarter := 1 << (power - 2)
	steps := (n - 1<<power + quarter - 1) / quarter
	return 4*(power-minBufferBits) + steps, 1<<power + steps*quarter
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

// putBuffer makes a buffer available to getBuffer, unless its size is not one of a pool.
func putBuffer(b []byte) {
	if cap(b) < 1<<minBufferBits {
		return
	}
	class, size := bufferClass(cap(b))
	if class >= len(pools) || cap(b) != size {
		return
	}
	b = b[:0]
	pools[class].Put(&b)
}
