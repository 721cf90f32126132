// Package buffers reuses the buffers of responses, batches and chunks, in pools by size. New
// memory for each of them would have to be zeroed and collected, and would not be in the
// processor's cache. All functions are safe for concurrent use.
package buffers

import (
	"math/bits"
	"sync"
)

// There are four sizes for each power of two, so that at most a quarter of a buffer is unused.
// Larger buffers have the exact size and are not reused. The garbage collector empties the
// pools.
const (
	minBufferBits = 12 // 4 KiB
	maxBufferBits = 24 // 16 MiB
)

var pools [4*(maxBufferBits-minBufferBits) + 1]sync.Pool

// classOf returns the smallest class of buffers with room for n bytes, and its size.
func classOf(n int) (class, size int) {
	if n <= 1<<minBufferBits {
		return 0, 1 << minBufferBits
	}
	power := bits.Len(uint(n-1)) - 1 // n is above this power of two, and not above the next one
	quarter := 1 << (power - 2)
	steps := (n - 1<<power + quarter - 1) / quarter
	return 4*(power-minBufferBits) + steps, 1<<power + steps*quarter
}

// Size returns the capacity of a buffer that Get returns for n bytes.
func Size(n int) int {
	if class, size := classOf(n); class < len(pools) {
		return size
	}
	return n
}

// Get returns an empty buffer with room for n bytes.
func Get(n int) []byte {
	class, size := classOf(n)
	if class >= len(pools) {
		return make([]byte, 0, n)
	}
	if b, ok := pools[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// Put makes a buffer available to Get, unless its size is not one of a pool.
func Put(b []byte) {
	if cap(b) < 1<<minBufferBits {
		return
	}
	class, size := classOf(cap(b))
	if class >= len(pools) || cap(b) != size {
		return
	}
	b = b[:0]
	pools[class].Put(&b)
}
