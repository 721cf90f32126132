package verify

import (
	"context"
	"fmt"
	"slices"
)

// Ranges are the ranges of offsets that the objects of one partition name. Gaps and repeats are
// found between the first and the last one: what is before and after them is not known.
type Ranges struct {
	First, Last int64
	Ranges      int64 // different ones; several objects of one range have records of different times
	Objects     int64
	GapOffsets  int64 // offsets that are in no range
	Unknown     int64 // offsets of gaps that the log does not explain; all of them without a log
	Repeats     int64 // offsets that are in a further range, or in a further object for the same records

	Gaps     []Gap // the first ones; At is the key after the gap
	Repeated []Run // the first ones; At is the key of the later range

	// With Deep:
	Records int64 // in the objects
	Unused  int64 // offsets of the ranges without a record

	// With a log:
	Missing       int64  // offsets of gaps and unused offsets whose record is in the log
	MissingRuns   []Run  // the first ones; At is the key after the gap, or of the range
	UnusedUnknown int64  // unused offsets that the log does not explain
	unusedReason  string // the first reason why it does not

	unusedAsked int64 // unused offsets that were looked up in the log, or would have been
	reads       int64 // of the log

	last origin // of the last range
}

// clone returns a copy that later missing records do not change.
func (r *Ranges) clone() Ranges {
	c := *r
	c.MissingRuns = slices.Clone(r.MissingRuns)
	return c
}

// good reports whether the ranges have no repeat, no missing record and, unless they are allowed, no
// gap that is not explained.
func (r *Ranges) good(allowHoles bool) bool {
	return r.Repeats == 0 && r.Missing == 0 && (r.Unknown == 0 || allowHoles)
}

// A proof is what was found about objects.
type proof struct {
	of         *Objects
	partitions map[topicPartition]*Ranges
	problems   []Problem
	more       int // problems that are not in the list
	ignored    []string
	unknown    int // keys that are ignored
	later      int // objects that were stored after the start

	logs   map[string]origin // by topic, as of the last look-up
	logErr error             // why the log cannot be read; nil if it can
}

// A Problem is an object that cannot be part of a proof.
type Problem struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// maxProblems bounds the memory for problems.
const maxProblems = 1000

func (p *proof) problem(key, reason string) {
	if len(p.problems) == maxProblems {
		p.more++
		return
	}
	p.problems = append(p.problems, Problem{key, reason})
}

// add adds the objects of one range. The ranges of a partition are added in the order of their first
// offsets.
func (p *proof) add(ctx context.Context, tp topicPartition, objects []object) error {
	one := &objects[0]
	r := p.partitions[tp]
	var gap *Gap // before the range
	switch {
	case r == nil:
		r = &Ranges{First: one.first, Last: one.last}
		p.partitions[tp] = r
	case one.first > r.Last+1:
		gap = newGap(r.Last+1, one.first-1, one.key)
	case one.first <= r.Last:
		r.repeat(one.first, min(one.last, r.Last), one.key)
	}
	r.Last = max(r.Last, one.last)
	r.Ranges++
	r.Objects += int64(len(objects))
	seen := make(map[string]bool, len(objects))
	for i := range objects {
		if seen[objects[i].stem] {
			r.repeat(one.first, one.last, objects[i].key)
		}
		seen[objects[i].stem] = true
	}
	if p.of.Deep {
		offsets, err := p.readRange(ctx, tp, objects, gap)
		if err != nil {
			return fmt.Errorf("read the objects of %s from offset %d: %w", tp, one.first, err)
		}
		r.Records += offsets
		r.Unused += max(0, one.last-one.first+1-offsets)
	}
	if gap != nil {
		r.addGap(gap)
	}
	return nil
}

func (r *Ranges) repeat(from, to int64, at string) {
	r.Repeats += to - from + 1
	if len(r.Repeated) < shownRuns {
		r.Repeated = append(r.Repeated, Run{from, to, at})
	}
}
