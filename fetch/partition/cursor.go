// Package partition has the state of one partition that one consumer reads, without locks or I/O:
// where the consumer is and what was fetched for it ([Cursor]), how much to request ([Sizing]), why
// it cannot be fetched ([Health]), and what happens when its position is lost ([Policy]). The
// fetcher guards all of it with its own lock.
//
// Start reading at [Cursor].
package partition

import (
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/batch"
	"kcagent/fetch/wire"
	"kcagent/leader"
)

// A QueuedPart is a part that was fetched for a subscription and is not read yet.
type QueuedPart struct {
	Part  batch.Part
	Frame *batch.Frame
	Since time.Time // when it was queued
	Begun bool      // Take has returned some of it
}

// A Lookup is what the leader has to answer before a subscription can fetch.
type Lookup int

// What has to be looked up.
const (
	LookupNone  Lookup = iota
	LookupRange        // whether the position is really out of range
	LookupStart        // which offset the start or the timestamp of the subscription means
)

// A log is truncated when a replica that lacks records becomes the leader (an unclean leader
// election), or when all replicas have lost their last records. Offsets alone do not show that,
// because the new leader may have written other records at the offsets that were consumed. So each
// position has the leader epoch of the last record before it (KIP-320), and the leader compares
// that with the epochs of its log. Since Kafka 2.7, fetch requests have the epoch (KIP-595). Before,
// an OffsetForLeaderEpoch request is sent whenever the leader epoch changes. Before Kafka 2.3,
// consumers may not send it, and truncation is not detected.

// A Cursor is where a subscription is in its partition. Next and FetchOffset are never changed without
// the epochs that belong to them.
type Cursor struct {
	Next          int64        // the position of the consumer
	NextEpoch     leader.Epoch // of the last record before Next
	Report        bool         // Take has to return Next: it was confirmed, looked up or reset
	Reset         bool         // Next was reset, and Take has not reported that yet
	ReportedReset bool         // the last Take reported a reset
	Confirmed     bool         // a broker has confirmed once that Next is in range

	FetchOffset int64         // of the next request: after everything in Queue
	FetchEpoch  leader.Epoch  // of the last record before FetchOffset
	CheckedBy   leader.Epoch  // epoch of the leader that has confirmed FetchEpoch
	TakenEpoch  leader.Epoch  // of the last record before what the last Take returned
	Lookup      Lookup        // what has to be looked up before the next request
	Queue       []*QueuedPart // fetched and not read yet, in order

	HighWater  int64 // high-water mark; -1 if it is unknown
	LastStable int64 // last stable offset; -1 if it is unknown
	// EndAt is when a broker last reported what End returns; zero if none has. A lookup that
	// reports only the high-water mark does not count for a reader of committed records.
	EndAt time.Time
}

// NewCursor returns a cursor at offset. epoch is that of the last record before it. A negative
// offset has to be looked up. The position of a paused subscription is reported at once if it is
// known.
func NewCursor(offset int64, epoch leader.Epoch, paused bool) Cursor {
	c := Cursor{Next: offset, NextEpoch: epoch, FetchOffset: offset, FetchEpoch: epoch, HighWater: -1, LastStable: -1}
	if offset < 0 {
		c.Lookup = LookupStart
	} else if paused {
		c.Report, c.Confirmed = true, true
	}
	return c
}

// End returns the end of the records that a reader with the isolation level may see; -1 if
// it is unknown.
func (c *Cursor) End(iso sarama.IsolationLevel) int64 {
	if iso == sarama.ReadCommitted && c.LastStable >= 0 {
		return min(c.LastStable, c.HighWater)
	}
	return c.HighWater
}

// HasRoom reports whether another part may be fetched: one ahead of the part that the consumer
// reads.
func (c *Cursor) HasRoom() bool {
	return len(c.Queue) == 0 || len(c.Queue) == 1 && c.Queue[0].Begun
}

// Jump moves the cursor to another offset, which Take reports. epoch is that of the last
// record before it.
func (c *Cursor) Jump(to int64, epoch leader.Epoch) {
	c.Next, c.NextEpoch = to, epoch
	c.FetchOffset, c.FetchEpoch = to, epoch
	c.Report, c.Confirmed = true, true
}

// ConfirmedBy reports whether the leader has the records that were consumed. Like the Java consumer,
// it compares only offsets: a smaller epoch that ends after the position is not a truncation.
func (c *Cursor) ConfirmedBy(e wire.EpochEnd) bool {
	return e.Epoch.Known() && e.Offset >= c.FetchOffset
}

// Truncation decides what the result of a lookup means: e is the end of the epoch of the last record
// before the fetch offset, and the log begins at start and ends at end. It returns nil if the log
// was not truncated. Otherwise the subscription continues at the diverging offset or fails, by its
// policy. If that offset is unknown or was deleted meanwhile, it continues at the start or the end,
// by its policy. epoch is that of the last record before the offset where it continues. A position
// before the start is out of range instead, because records that retention has deleted were not
// truncated.
func (c *Cursor) Truncation(e wire.EpochEnd, start, end int64, policy Policy) (t *TruncatedError, epoch leader.Epoch) {
	if !e.Epoch.Known() {
		e.Offset = -1
	}
	if c.ConfirmedBy(e) || c.FetchOffset < start || e.Offset < 0 && c.FetchOffset > end {
		return nil, leader.Unknown
	}
	t = &TruncatedError{Offset: c.FetchOffset, Epoch: c.FetchEpoch, Diverging: e.Offset, To: e.Offset}
	epoch = e.Epoch
	if e.Offset < start {
		if epoch, t.To = leader.Unknown, start; policy == Latest {
			t.To = end
		}
	}
	if policy == Fail {
		t.To = -1
	}
	return t, epoch
}
