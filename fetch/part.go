package fetch

import (
	"slices"

	"kcagent/leader"
)

// A part is what one response brought for one subscription, as far as it has not been read.
type part struct {
	runs  []run
	next  int64        // the offset after it
	last  leader.Epoch // of the last batch before next
	epoch leader.Epoch // of the last record before the position that hand has reached
}

// Empty reports whether all records were read.
func (p *part) Empty() bool { return len(p.runs) == 0 }

// part returns the content for one subscription: others read the same records at their own
// pace.
func (c *content) part() part { return part{runs: slices.Clone(c.runs), next: c.next, last: c.last} }

// hand gives the records to each and returns where to go on.
func (p *part) hand(each func(*Record) bool) (next int64, err error) {
	var r Record
	for len(p.runs) > 0 {
		from, epoch := p.runs[0].from, p.runs[0].epoch
		all, next, err := p.runs[0].hand(&r, each)
		if all || p.runs[0].from > from {
			p.epoch = epoch
		}
		if all {
			p.runs[0] = run{} // it would keep the batch
			p.runs = p.runs[1:]
		}
		if !all || next > 0 || err != nil {
			if len(p.runs) == 0 {
				next, p.epoch = p.next, p.last
			}
			return next, err
		}
	}
	p.epoch = p.last
	return p.next, nil
}
