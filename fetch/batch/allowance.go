package batch

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/limits"
)

// An Allowance is the memory that one response may use: what the budget granted and, for a
// larger first batch, memory for large batches, which the whole process shares. One goroutine
// at a time uses it.
type Allowance struct {
	memory *limits.Memory
	owner  any   // for which memory for large batches is acquired
	left   int64 // of the grant
	spare  int64 // acquired, and not used
	fed    bool  // the response has a batch
}

// NewAllowance returns an allowance without a grant. memory is where the memory for large
// batches comes from.
func NewAllowance(memory *limits.Memory) Allowance { return Allowance{memory: memory} }

// Grant sets the memory for a response to n bytes. owner identifies who waits for memory for
// large batches.
func (a *Allowance) Grant(owner any, n int64) { a.owner, a.left = owner, n }

// AddLarge hands over n bytes that the caller has acquired from the memory for large batches.
func (a *Allowance) AddLarge(n int64) { a.spare += n }

// Close gives back memory for large batches that was not used.
func (a *Allowance) Close() {
	if a.spare > 0 {
		a.memory.Release(a.spare)
		a.spare = 0
	}
}

// errNoRoom means that a batch does not fit beside what was decompressed before. It is
// fetched again.
var errNoRoom = errors.New("no room for a batch of records")

// A MemoryBusyError reports that other batches hold the memory for large batches.
type MemoryBusyError struct {
	Need int64 // bytes of that memory that the batch needs
}

func (e *MemoryBusyError) Error() string {
	return fmt.Sprintf("other large batches use the memory for a batch of records that needs %d bytes", e.Need)
}

// most is how large the next batch may be.
func (a *Allowance) most() int64 {
	if a.fed {
		return max(a.left, 0)
	}
	return min(a.memory.MaxBatch(), max(a.left, a.memory.Large()))
}

// need takes n bytes for a part of fr.
func (a *Allowance) need(fr *Frame, n int64) error {
	switch {
	case n <= a.left:
		a.left -= n
		fr.size += n
		return nil
	case a.fed:
		return errNoRoom
	case fr.large+n > a.memory.Large():
		return &sizeError{size: fr.large + n, total: true}
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
// [*TooLargeError]. For the latter, peek is called for the first bytes of the response: the header
// of the batch that is too large is in them, and has its last offset.
func (a *Allowance) NewFrame(n int64, peek func(n int64) []byte) (*Frame, error) {
	fr := &Frame{}
	if n <= a.left {
		b := getBuffer(int(n))
		a.left -= int64(cap(b))
		fr.buf, fr.size = b[:n], int64(cap(b))
		return fr, nil
	}
	err := a.needFrame(fr, n)
	var size *sizeError
	if errors.As(err, &size) {
		err = &TooLargeError{sizeError: *size, next: afterBatch(peek(min(n, 4<<10)), n), memory: a.memory}
	}
	if err != nil {
		return nil, err
	}
	fr.buf = make([]byte, n)
	return fr, nil
}

func (a *Allowance) needFrame(fr *Frame, n int64) error {
	if n > a.memory.MaxBatch()+responseOverhead || n > a.memory.Large() {
		return &sizeError{size: n}
	}
	return a.need(fr, n)
}

// responseOverhead is the size of a response without its batch: it has an entry for each
// partition of the request.
const responseOverhead = 1 << 20

// inflate decompresses a part of a frame.
func (a *Allowance) inflate(fr *Frame, codec sarama.CompressionCodec, b []byte) ([]byte, error) {
	large := false
	data, err := inflate(codec, b, a.most(), func(n int64) error {
		large = true
		return a.need(fr, n)
	})
	if err == nil && !large {
		err = a.need(fr, int64(cap(data)))
	}
	if err != nil {
		if data != nil && !large {
			putBuffer(data)
		}
		return nil, err
	}
	fr.extras = append(fr.extras, data)
	return data, nil
}

// A TooLargeError reports that a batch of records is too large, and names the next step.
type TooLargeError struct {
	sizeError
	next   int64 // the offset after the batch; -1 if it is unknown
	memory *limits.Memory
}

func (e *TooLargeError) Error() string {
	size := fmt.Sprintf("%d bytes", e.size)
	if e.least {
		size = "at least " + size
	}
	skip := "to the offset after the batch"
	if e.next >= 0 {
		skip = fmt.Sprintf("to %d", e.next)
	}
	skip = "; to skip it, stop the consumer and reset the group's offset " + skip
	if most, large := e.memory.MaxBatch(), e.memory.Large(); e.total && large < 2*most || large < most {
		return fmt.Sprintf("record batch needs %s of memory, and the memory limit of %d bytes allows %d for a batch: raise the memory limit (GOMEMLIMIT, or that of the container)%s",
			size, e.memory.Limit(), min(most, large), skip)
	}
	return fmt.Sprintf("record batch has %s, more than limits.max_batch (%d): raise limits.max_batch%s", size, e.memory.MaxBatch(), skip)
}
