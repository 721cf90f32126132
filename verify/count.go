package verify

import (
	"cmp"
	"fmt"
	"slices"
)

// A Count is what files hold of a partition. Holes and repeats are found between its first
// and its last offset.
type Count struct {
	First, Last int64
	Records     int64 // lines, repeats included
	Missing     int64 // offsets without a line
	Repeats     int64 // lines whose offset an earlier line, or another file, has
	Late        int64 // lines after one with a higher offset in the same file, whose own offset is new

	Holes    []Run // the first ones, in order of their offsets
	Repeated []Run // the first ones, in the order in which they were found

	start string // file:line of the first record
}

// A Run is a range of offsets that are missing or repeated, both ends included. At is the
// file:line of the record, or the key of the object, after a hole or with the first repeat.
type Run struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	At   string `json:"at"`
}

// Bounds of the memory of a partition. Beyond maxHoles, a late offset counts as a repeat.
const (
	maxHoles    = 10_000
	maxRepeated = 100
)

// Good reports whether the partition has no repeat, no late record and, unless they are
// allowed, no hole.
func (c *Count) Good(allowHoles bool) bool {
	return c.Repeats == 0 && c.Late == 0 && (c.Missing == 0 || allowHoles)
}

func newCount(offset int64, file string, line int64) *Count {
	return &Count{First: offset, Last: offset, Records: 1, start: place(file, line)}
}

func place(file string, line int64) string { return fmt.Sprintf("%s:%d", file, line) }

func (c *Count) clone() Count {
	n := *c
	n.Holes, n.Repeated = slices.Clone(c.Holes), slices.Clone(c.Repeated)
	return n
}

// add counts the next record of a file.
func (c *Count) add(offset int64, file string, line int64) {
	c.Records++
	switch {
	case offset == c.Last+1:
		c.Last = offset
	case offset > c.Last:
		c.skip(offset, place(file, line))
	case offset < c.First:
		c.Missing += c.First - offset - 1
		if c.First-offset > 1 {
			c.Holes = slices.Insert(c.Holes, 0, Run{offset + 1, c.First - 1, c.start})
		}
		c.First, c.start = offset, place(file, line)
		c.Late++
	default:
		c.Late += c.cover(offset, offset, func() string { return place(file, line) })
	}
}

// skip notes the hole before an offset that is beyond the last one.
func (c *Count) skip(offset int64, at string) {
	c.Missing += offset - c.Last - 1
	if len(c.Holes) < maxHoles {
		c.Holes = append(c.Holes, Run{c.Last + 1, offset - 1, at})
	}
	c.Last = offset
}

// repeat notes offsets that are in the files already. Those that follow each other are one
// run.
func (c *Count) repeat(from, to int64, at func() string) {
	c.Repeats += to - from + 1
	if n := len(c.Repeated); n > 0 && c.Repeated[n-1].To == from-1 {
		c.Repeated[n-1].To = to
	} else if n < maxRepeated {
		c.Repeated = append(c.Repeated, Run{from, to, at()})
	}
}

// cover counts offsets between the first and the last one. It returns how many of them fill
// a hole; the others are repeats.
func (c *Count) cover(from, to int64, at func() string) (filled int64) {
	repeat := func(from, to int64) {
		if from <= to {
			c.repeat(from, to, at)
		}
	}
	i, _ := slices.BinarySearchFunc(c.Holes, from, func(h Run, offset int64) int { return cmp.Compare(h.To, offset) })
	for i < len(c.Holes) && c.Holes[i].From <= to {
		h := c.Holes[i]
		first, last := max(h.From, from), min(h.To, to)
		repeat(from, first-1)
		filled += last - first + 1
		c.Missing -= last - first + 1
		var rest []Run
		if h.From < first {
			rest = append(rest, Run{h.From, first - 1, h.At})
		}
		if last < h.To {
			rest = append(rest, Run{last + 1, h.To, h.At})
		}
		c.Holes = slices.Replace(c.Holes, i, i+1, rest...)
		i += len(rest)
		from = last + 1
	}
	repeat(from, to)
	return filled
}

// join adds what another file holds, whose first offset is not lower. Offsets that both hold
// are repeats. The offsets of one may be between those of the other: a file of dead letters
// has those that the file of the records lacks.
func (c *Count) join(o *Count) {
	c.Records += o.Records
	c.Late += o.Late
	c.Repeats += o.Repeats
	c.Repeated = append(c.Repeated, o.Repeated[:min(len(o.Repeated), maxRepeated-len(c.Repeated))]...)
	from, at, listed := o.First, o.start, int64(0)
	for _, h := range o.Holes {
		c.joinRun(from, h.From-1, at)
		from, at = h.To+1, h.At
		listed += h.To - h.From + 1
	}
	c.joinRun(from, o.Last, at)
	c.Missing += o.Missing - listed // in holes beyond maxHoles
}

// joinRun adds offsets of another file without a hole between them.
func (c *Count) joinRun(from, to int64, at string) {
	if inside := min(to, c.Last); from <= inside {
		c.cover(from, inside, func() string { return at })
		from = inside + 1
	}
	if from > to {
		return
	}
	if from > c.Last+1 {
		c.skip(from, at)
	}
	c.Last = to
}
