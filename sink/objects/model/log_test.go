package model

import "math/bits"

// A set is a set of records. A record is a number below 64 that is never used again, also not on
// another cluster or in a topic that is recreated.
type set uint64

func one(id int) set { return 1 << id }

func (s set) empty() bool { return s == 0 }

func (s set) size() int { return bits.OnesCount64(uint64(s)) }

// An entry is one offset of the log: a record, or the control record that ends a transaction.
type entry struct {
	id      int // of the record
	hour    int // the window of its timestamp
	control bool
	open    bool // its transaction has not ended
	aborted bool
	removed bool // by retention or compaction
}

func (e entry) record() bool { return !e.control && !e.aborted && !e.removed }

// A topic is the log of the partition. Recreating the topic, and failing over to a mirror of the
// cluster, make another one.
type topic struct {
	cluster, id int
	start       int     // log start offset
	entries     []entry // by offset
}

func (t *topic) end() int { return len(t.entries) }

// stable returns the last stable offset.
func (t *topic) stable() int {
	for o, e := range t.entries {
		if e.open {
			return o
		}
	}
	return t.end()
}

// next returns the offset at or after o that a fetch returns next. It is false if there is none
// before the offset limit.
func (t *topic) next(o, limit int) (int, bool) {
	for o = max(o, t.start); o < limit; o++ {
		if !t.entries[o].removed {
			return o, true
		}
	}
	return 0, false
}

// records returns the committed records in [first, next).
func (t *topic) records(first, next int) (s set) {
	for o := first; o < min(next, t.end()); o++ {
		if e := t.entries[o]; e.record() && !e.open {
			s |= one(e.id)
		}
	}
	return s
}

// endTransaction commits or aborts the open transaction, and returns the aborted records.
func (t *topic) endTransaction(commit bool) (aborted set) {
	if t.stable() == t.end() {
		return 0
	}
	for o := range t.entries {
		if e := &t.entries[o]; e.open {
			e.open, e.aborted = false, !commit
			if !commit {
				aborted |= one(e.id)
			}
		}
	}
	t.entries = append(t.entries, entry{control: true})
	return aborted
}
