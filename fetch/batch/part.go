package batch

import (
	"slices"
	"time"

	"kcagent/leader"
)

// A Part is what one response brought for one subscription, without the records that were read
// already.
type Part struct {
	batches []Batch
	Next    int64        // the offset to continue at after all records
	Last    leader.Epoch // leader epoch of the last batch before Next
	Epoch   leader.Epoch // leader epoch of the last record before the offset that Each returned
	// ReadEpoch is the leader epoch of the last record that Each has read, or of the last one before
	// them. Epoch may be later, because batches without records for the caller follow.
	ReadEpoch leader.Epoch
}

// Part returns the content for one subscription. Others read the same records at their own pace.
func (c *Content) Part() Part {
	return Part{batches: slices.Clone(c.batches), Next: c.Next, Last: c.Last}
}

// Empty reports whether all records were read.
func (p *Part) Empty() bool { return len(p.batches) == 0 }

// Size returns how many bytes the records that are still to be read have, without a large rest:
// it stops counting once there are at least most.
func (p *Part) Size(most int) (n int) {
	for i := 0; i < len(p.batches) && n < most; i++ {
		n += len(p.batches[i].data)
	}
	return n
}

// Since returns a time that is not later than the timestamp of the first record, if producers write
// records in the order of their timestamps. It is zero if that is unknown.
func (p *Part) Since() time.Time {
	if len(p.batches) == 0 || p.batches[0].legacy {
		return time.Time{}
	}
	return timestamp(p.batches[0].baseTime)
}

// Each calls receive for the records in order until it returns false. It returns the offset to
// continue at, also with an error. The record is the same at each call, and its bytes are valid
// only during the call.
func (p *Part) Each(receive func(*Record) bool) (next int64, err error) {
	var r Record
	return p.walk(func(b *Batch) (all bool, next int64, err error) { return b.each(&r, receive) })
}

// walk calls read for the batches in order until one call has not read all records of its batch, or
// returns an offset. It returns the offset to continue at, also with an error.
func (p *Part) walk(read func(*Batch) (all bool, next int64, err error)) (next int64, err error) {
	p.ReadEpoch = p.Epoch
	for len(p.batches) > 0 {
		from, epoch := p.batches[0].from, p.batches[0].epoch
		all, next, err := read(&p.batches[0])
		if all || p.batches[0].from > from {
			p.Epoch, p.ReadEpoch = epoch, epoch
		}
		if all {
			p.batches[0] = Batch{} // so that the array does not keep its memory
			p.batches = p.batches[1:]
		}
		if !all || next > 0 || err != nil {
			if len(p.batches) == 0 {
				next, p.Epoch = p.Next, p.Last
			}
			return next, err
		}
	}
	p.Epoch = p.Last
	return p.Next, nil
}
