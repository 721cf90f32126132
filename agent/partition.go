package agent

import (
	"sync/atomic"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/sink"
)

// partition is the live side of one assigned partition. The claim writes it,
// everybody reads it.
type partition struct {
	sink.TopicPartition
	sub       *fetch.Subscription
	accepted  atomic.Int64 // next offset after what the sink accepted; -1 until it is known
	safe      atomic.Int64 // next offset after what the sink made safe
	committed atomic.Int64 // what the broker holds; -1 if it holds none
	placed    bool         // the position is known to be good; consume's alone
	later     bool         // it came after the group began, see beginnings
	began     int32        // with how many partitions of the topic the group began; -1 if unknown
	trouble   string       // the fetch error that was reported last; the watchdog's alone

	// Of a sink that keeps an account; see place.
	owner   string            // in the note beside the offsets that the sink covers; "" if it keeps none
	others  string            // who stands in the one beside the committed offset
	entered atomic.Bool       // the sink's account has the partition
	owned   atomic.Bool       // the broker's offset says nothing that the account does not
	claimed chan struct{}     // closed when owned is set
	renewed config.OutOfRange // how to begin in a topic made anew; "" if it was not
}

// lag is how many records lie between what was accepted and the end, which
// under read_committed is the last stable offset.
func (p *partition) lag() int64 {
	next, end := p.accepted.Load(), p.sub.End()
	if next < 0 || end < 0 {
		return 0
	}
	return max(0, end-next)
}

// own notes that the account speaks for the partition.
func (p *partition) own() {
	if !p.owned.Swap(true) {
		close(p.claimed)
	}
}

// note is what to leave beside an offset. One that the account does not have is not
// the account's: whoever moved it there stays named.
func (p *partition) note(entered bool) note {
	if entered || p.owned.Load() {
		return note{p.owner, p.began}
	}
	return note{p.others, p.began}
}
