package batch

import (
	"kcagent/buffers"
	"kcagent/limits"
)

// A Frame is the memory of one response: its bytes, and what was decompressed from them. Parts
// of many subscriptions point into it, and the last one that has been read gives it back. The
// owner of the frame guards the number of these parts with a lock of its own.
type Frame struct {
	buf    []byte
	extras [][]byte // decompressed batches
	refs   int      // parts that are still to be read
	size   int64    // see Size
	large  int64    // bytes of the memory for large batches, in addition to size
	memory *limits.Memory
}

// NewFrame returns a frame for a response of n bytes, outside any [Allowance].
func NewFrame(n int) *Frame {
	b := buffers.Get(n)
	return &Frame{buf: b[:n], size: int64(cap(b))}
}

// Bytes returns the bytes of the response.
func (fr *Frame) Bytes() []byte { return fr.buf }

// Size returns how many bytes the frame uses of what its allowance granted.
func (fr *Frame) Size() int64 { return fr.size }

// HoldsLarge reports whether the frame holds memory for large batches.
func (fr *Frame) HoldsLarge() bool { return fr.large > 0 }

// Retain counts one more part that is to be read.
func (fr *Frame) Retain() { fr.refs++ }

// Unref counts a part that was read or dropped, and reports whether it was the last one. The
// caller then releases the frame.
func (fr *Frame) Unref() (last bool) {
	fr.refs--
	return fr.refs <= 0
}

// InUse reports whether a part is still to be read.
func (fr *Frame) InUse() bool { return fr.refs > 0 }

// Detach leaves the bytes of the response to the garbage collector, so that they stay valid
// after Release.
func (fr *Frame) Detach() { fr.buf = nil }

// Release gives the memory back. Nothing may point into the frame any more.
func (fr *Frame) Release() {
	buffers.Put(fr.buf)
	for _, b := range fr.extras {
		buffers.Put(b)
	}
	fr.buf, fr.extras = nil, nil
	if fr.large > 0 {
		fr.memory.Release(fr.large)
		fr.large = 0
	}
}
