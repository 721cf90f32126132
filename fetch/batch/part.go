package batch

import (
	"slices"

	"kcagent/leader"
)

// A Part is what one response brought for one subscription, as far as it has not been read.
type Part struct {
	batches []Batch
	Next    int64        // the offset after it
	Last    leader.Epoch // of the last batch before next
	Epoch   leader.Epoch // of the last record before the position that hand has reached
}

// Empty reports whether all records were read.
func (p *Part) Empty() bool { return len(p.batches) == 0 }

// Part returns the content for one subscription: others read the same records at their own
// pace.
func (c *Content) Part() Part {
	return Part{batches: slices.Clone(c.batches), Next: c.Next, Last: c.Last}
}

// Each gives the records to each and returns where to go on.
func (p *Part) Each(each func(*Record) bool) (next int64, err error) {
	var r Record
	for len(p.batches) > 0 {
		from, epoch := p.batches[0].from, p.batches[0].epoch
		all, next, err := p.batches[0].each(&r, each)
		if all || p.batches[0].from > from {
			p.Epoch = epoch
		}
		if all {
			p.batches[0] = Batch{} // it would keep the batch
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
