package batch

import (
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"

	"kcagent/buffers"
	"kcagent/limits"
)

// An Allowance is the memory that one response may use: a grant and, for a first batch that is
// larger, memory for large batches, which the whole process shares. Its methods are not safe for
// concurrent use, but [DecodeAll] decodes partitions concurrently within it.
type Allowance struct {
	memory   *limits.Memory
	owner    any   // who acquires memory for large batches
	spare    int64 // bytes of memory for large batches that are acquired and not used
	hasBatch bool  // a batch of the response was decoded; never false again

	mu   sync.Mutex // guards the next field, and the decompressed batches of the frame
	left int64      // bytes of the grant that are not used
}

// NewAllowance returns an allowance without a grant. Memory for large batches is acquired from
// memory.
func NewAllowance(memory *limits.Memory) Allowance { return Allowance{memory: memory} }

// Grant allows a response to use n bytes. owner identifies who waits for memory for large
// batches; see [limits.Memory.Acquire].
func (a *Allowance) Grant(owner any, n int64) { a.owner, a.left = owner, n }

// AddLarge adds n bytes of memory for large batches that the caller has acquired.
func (a *Allowance) AddLarge(n int64) { a.spare += n }

// Close releases memory for large batches that was not used.
func (a *Allowance) Close() {
	if a.spare > 0 {
		a.memory.Release(a.spare)
		a.spare = 0
	}
}

// errNoMemory reports that a batch does not fit beside the batches before it. It is fetched
// again.
var errNoMemory = errors.New("no room for a batch of records")

// A MemoryBusyError reports that other batches hold the memory for large batches.
type MemoryBusyError struct {
	Need int64 // bytes that the batch needs
}

func (e *MemoryBusyError) Error() string {
	return fmt.Sprintf("other large batches use the memory for a batch of records that needs %d bytes", e.Need)
}

// maxBatch returns how large the next batch may be, in bytes.
func (a *Allowance) maxBatch() int64 {
	if a.hasBatch {
		return max(a.left, 0)
	}
	return min(a.memory.MaxBatch(), max(a.left, a.memory.Large()))
}

// reserve takes n bytes for the frame, from the grant or else, for the first batch, from the memory
// for large batches.
func (a *Allowance) reserve(fr *Frame, n int64) error {
	switch {
	case n <= a.left:
		a.left -= n
		fr.size += n
		return nil
	case a.hasBatch:
		return errNoMemory
	case fr.large+n > a.memory.Large():
		return &sizeError{size: fr.large + n, withResponse: true}
	}
	if extra := n - a.spare; extra > 0 {
		if !a.memory.Acquire(a.owner, extra) {
			return &MemoryBusyError{Need: fr.large + n}
		}
		a.spare += extra
	}
	a.spare -= n
	fr.large += n
	fr.memory = a.memory
	a.memory.Collect()
	return nil
}

// NewFrame returns a frame for a response of n bytes. Its error is a [*MemoryBusyError] or a
// [*TooLargeError]. For the latter, NewFrame calls peek, which returns at most n of the first bytes
// of the response: they contain the header of the batch that is too large, and so the offset after
// it.
func (a *Allowance) NewFrame(n int64, peek func(n int64) []byte) (*Frame, error) {
	fr := &Frame{}
	if n <= a.left {
		b := buffers.Get(int(n))
		a.left -= int64(cap(b))
		fr.buf, fr.size = b[:n], int64(cap(b))
		return fr, nil
	}
	err := a.reserveFrame(fr, n)
	if tooLarge, ok := errors.AsType[*sizeError](err); ok {
		err = &TooLargeError{sizeError: *tooLarge, next: afterBatch(peek(min(n, 4<<10)), n), memory: a.memory}
	}
	if err != nil {
		return nil, err
	}
	fr.buf = make([]byte, n)
	return fr, nil
}

// reserveFrame reserves a response of n bytes, which is more than the grant.
func (a *Allowance) reserveFrame(fr *Frame, n int64) error {
	if n > a.memory.MaxBatch()+responseOverhead || n > a.memory.Large() {
		return &sizeError{size: n}
	}
	return a.reserve(fr, n)
}

// responseOverhead is the largest size of a response without its batches. It has an entry for each
// partition of the request.
const responseOverhead = 1 << 20

// decompress decompresses a batch, and makes the result a part of the frame. Once the response has
// a batch, it may be called concurrently.
func (a *Allowance) decompress(fr *Frame, codec sarama.CompressionCodec, b []byte) ([]byte, error) {
	if a.hasBatch {
		return a.decompressNext(fr, codec, b)
	}
	large := false
	data, err := decompress(codec, b, a.maxBatch(), room{reserve: func(n int64) error {
		large = true
		return a.reserve(fr, n)
	}})
	if err == nil && !large {
		err = a.reserve(fr, int64(cap(data)))
	}
	if err != nil {
		if data != nil && !large {
			buffers.Put(data)
		}
		return nil, err
	}
	fr.extras = append(fr.extras, data)
	return data, nil
}

// decompressNext is decompress for the batches after the first one, which must fit into the grant.
// All their buffers are taken from the grant before they are used: together, the partitions that
// are decoded concurrently would exceed it otherwise.
func (a *Allowance) decompressNext(fr *Frame, codec sarama.CompressionCodec, b []byte) ([]byte, error) {
	var claimed, reserved int64
	take := func(n int64) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		if n > a.left && n > 0 {
			return false
		}
		a.left -= n
		return true
	}
	a.mu.Lock()
	limit := max(a.left, 0)
	a.mu.Unlock()
	data, err := decompress(codec, b, limit, room{
		reserve: func(size int64) error {
			if !take(size) {
				return errNoMemory
			}
			reserved = size
			return nil
		},
		claim: func(more int64) error {
			if !take(more) {
				return &sizeError{size: claimed + more, atLeast: true}
			}
			claimed += more
			return nil
		},
	})
	used := reserved
	if used == 0 {
		used = int64(cap(data))
	}
	if err == nil && !take(used-claimed-reserved) {
		err = errNoMemory
	}
	if err != nil {
		if reserved == 0 {
			buffers.Put(data)
		}
		take(-claimed - reserved)
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	fr.size += used
	fr.extras = append(fr.extras, data)
	return data, nil
}

// A TooLargeError reports that a record batch is too large. Its text names the next step.
type TooLargeError struct {
	sizeError
	next   int64 // the offset after the batch; -1 if it is unknown
	memory *limits.Memory
}

func (e *TooLargeError) Error() string {
	size := fmt.Sprintf("%d bytes", e.size)
	if e.atLeast {
		size = "at least " + size
	}
	skip := "to the offset after the batch"
	if e.next >= 0 {
		skip = fmt.Sprintf("to %d", e.next)
	}
	skip = "; to skip it, stop the consumer and reset the group's offset " + skip
	if most, large := e.memory.MaxBatch(), e.memory.Large(); e.withResponse && large < 2*most || large < most {
		return fmt.Sprintf("record batch needs %s of memory, and the memory limit of %d bytes allows %d for a batch: raise the memory limit (GOMEMLIMIT, or that of the container)%s",
			size, e.memory.Limit(), min(most, large), skip)
	}
	return fmt.Sprintf("record batch has %s, more than limits.max_batch (%d): raise limits.max_batch%s", size, e.memory.MaxBatch(), skip)
}
