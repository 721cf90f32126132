package fetch

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/limits"
)

// A room is the memory that one answer may use: what the budget granted and, for a larger
// first batch, memory for large batches, which the whole process shares. Only the lane's
// goroutine uses it.
type room struct {
	memory *limits.Memory
	who    any   // that acquires memory
	left   int64 // of the grant
	spare  int64 // acquired, and not used
	fed    bool  // the answer has a batch
}

// errNoRoom means that a batch does not fit beside what was decompressed before. It is
// fetched again.
var errNoRoom = errors.New("no room for a batch of records")

// A shortError reports that other batches hold the memory for large batches.
type shortError struct{ need int64 }

func (e *shortError) Error() string {
	return fmt.Sprintf("other large batches use the memory for a batch of records that needs %d bytes", e.need)
}

// most is how large the next batch may be.
func (r *room) most() int64 {
	if r.fed {
		return max(r.left, 0)
	}
	return min(r.memory.MaxBatch(), max(r.left, r.memory.Large()))
}

// need takes n bytes for a part of fr.
func (r *room) need(fr *frame, n int64) error {
	switch {
	case n <= r.left:
		r.left -= n
		fr.size += n
		return nil
	case r.fed:
		return errNoRoom
	case fr.large+n > r.memory.Large():
		return &sizeError{size: fr.large + n, total: true}
	}
	if extra := n - r.spare; extra > 0 {
		if !r.memory.Acquire(r.who, extra) {
			return &shortError{need: fr.large + n}
		}
		r.spare += extra
	}
	r.spare -= n
	fr.large += n
	fr.memory = r.memory
	r.memory.Collect()
	return nil
}

// frame returns a frame for a response of n bytes.
func (r *room) frame(n int64) (*frame, error) {
	fr := &frame{}
	if n <= r.left {
		b := getBuffer(int(n))
		r.left -= int64(cap(b))
		fr.buf, fr.size = b[:n], int64(cap(b))
		return fr, nil
	}
	if n > r.memory.MaxBatch()+responseOverhead || n > r.memory.Large() {
		return nil, &sizeError{size: n}
	}
	if err := r.need(fr, n); err != nil {
		return nil, err
	}
	fr.buf = make([]byte, n)
	return fr, nil
}

// responseOverhead is the size of a response without its batch: it has an entry for each
// partition of the request.
const responseOverhead = 1 << 20

// inflate decompresses a part of a frame.
func (r *room) inflate(fr *frame, codec sarama.CompressionCodec, b []byte) ([]byte, error) {
	large := false
	data, err := inflate(codec, b, r.most(), func(n int64) error {
		large = true
		return r.need(fr, n)
	})
	if err == nil && !large {
		err = r.need(fr, int64(cap(data)))
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

// close gives back what was acquired and not used.
func (r *room) close() {
	if r.spare > 0 {
		r.memory.Release(r.spare)
		r.spare = 0
	}
}

// A batchError reports that a batch of records is too large, and names the next step.
type batchError struct {
	sizeError
	next   int64 // the offset after the batch; -1 if it is unknown
	memory *limits.Memory
}

func (e *batchError) Error() string {
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
