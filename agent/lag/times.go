package lag

import "time"

// Times are the timestamps of the records before and after a position, as far as they are
// known. They are recorded once for each chunk. The zero value has none. Times are not safe for
// concurrent use.
//
// Each timestamp is stored with the position that it belongs to. So it is not used after the
// position was reset, or was moved by another member.
type Times struct {
	next stamp // of the first record of the chunk that was read last
	last stamp // of the last record that the sink accepted
}

// A stamp is the timestamp of the record before or after a position.
type stamp struct {
	position int64
	at       time.Time // zero if it is unknown
}

// Read records that a chunk was read at a position, and the timestamp of its first record.
func (t *Times) Read(position int64, first time.Time) { t.next = stamp{position, first} }

// Accept records that the sink accepted a chunk between two positions, and the timestamp of
// its last record. If the timestamp is zero, because the record has none or because there is no
// record, the former one stays in use: it is older, so it still gives an upper bound.
func (t *Times) Accept(from, to int64, last time.Time) {
	if last.IsZero() && t.last.position == from {
		last = t.last.at
	}
	t.last = stamp{to, last}
}

// Next returns a time that is not later than the timestamp of the record after a position; zero
// if none is known. queued is such a time from another source; zero if that knows none.
func (t *Times) Next(position int64, queued time.Time) time.Time {
	if t.next.position == position && !t.next.at.IsZero() {
		return t.next.at
	}
	if t.last.position == position && t.last.at.After(queued) {
		return t.last.at
	}
	return queued
}
