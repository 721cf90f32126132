package buffers

import "testing"

// TestBufferClasses: a buffer has room for what was requested, is at most a quarter larger, and returns to
// the pool that it came from.
func TestBufferClasses(t *testing.T) {
	for n := 1; n < 40<<20; n += 1 + n/97 {
		for _, n := range []int{n - 1, n, n + 1} {
			class, size := classOf(n)
			again, same := classOf(size)
			if size < n || n > 4096 && size > n+n/4 || again != class || same != size {
				t.Fatalf("a buffer for %d bytes has %d, class %d, then %d", n, size, class, again)
			}
		}
	}
}
