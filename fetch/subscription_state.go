package fetch

import (
	"math"
	"time"

	"kcagent/fetch/partition"
)

// A state is what the lanes of its broker can do for a subscription. The agenda has a list
// for each state in which there is something to do.
type state int8

const (
	stateNone     state = iota // not determined yet
	stateClosed                // Close was called
	stateFailed                // Take returns an error until Retry
	stateLost                  // its leader is being looked up
	stateInFlight              // it is in a request
	stateResting               // it waits until request.retryAt, after an error
	stateLookup                // the leader has to look its position up
	statePaused                // only the end of the partition is requested
	stateAway                  // its consumer is busy, and may come back for more
	stateBehind                // fetchable, with records waiting at the broker
	stateCaughtUp              // fetchable, without new records
)

// fetchable reports whether a request for records may be sent.
func (st state) fetchable() bool { return st == stateBehind || st == stateCaughtUp }

// reachable reports whether the broker may be asked for the end of the partition now.
func (st state) reachable() bool { return st > stateResting }

// currentState determines the state from everything that is known of s. The first rule that
// applies wins.
func (s *Subscription) currentState(now time.Time) state {
	switch {
	case s.closed:
		return stateClosed
	case s.fatal != nil:
		return stateFailed
	case s.route.lost || s.route.broker == nil:
		return stateLost
	case s.request.inFlight:
		return stateInFlight
	case s.request.retryAt.After(now):
		return stateResting
	case s.cursor.Lookup != partition.LookupNone && len(s.cursor.Queue) == 0 && !s.reader.taking:
		return stateLookup // not before the parts that were fetched are read
	case s.paused:
		return statePaused
	case !s.reader.waiting && !s.reader.prefetch, s.reader.moved, s.cursor.Lookup != partition.LookupNone, !s.cursor.HasRoom():
		return stateAway
	case s.behind():
		return stateBehind
	}
	return stateCaughtUp
}

// behind reports whether there are records to fetch, or whether that is unknown.
func (s *Subscription) behind() bool {
	end := s.cursor.End(s.iso)
	return !s.route.drained && (end < 0 || s.cursor.FetchOffset < end)
}

// An Outlook is what is known of the records that a subscription has not delivered yet.
type Outlook struct {
	// End is the offset up to which the subscription may read: the high-water mark, or under
	// read_committed the last stable offset, before which no transaction is open. It is -1 if that
	// is not known now: no broker has reported it, the last report is too old, or the position of
	// the subscription is lost.
	End int64
	// Queued is a time that is not later than the timestamp of the first record that was fetched
	// ahead. It is zero if there is none, or if that is not known.
	Queued time.Time
}

// Outlook returns what is known of the records ahead now. The end is kept up to date while the
// subscription is paused, and while its consumer does not read. While a broker takes long to send a
// response, what it reported before counts: it can be asked nothing else.
func (s *Subscription) Outlook(now time.Time) Outlook {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	o := Outlook{End: -1}
	reported := s.cursor.EndAt
	if reported.IsZero() || s.fatal != nil {
		return o
	}
	if s.route.broker != nil && !s.route.lost && s.health.Err == nil {
		if progress := time.Unix(0, s.route.broker.progressAt.Load()); progress.After(reported) {
			reported = progress
		}
	}
	if now.Sub(reported) <= s.f.endLasts {
		o.End = s.cursor.End(s.iso)
	}
	if len(s.cursor.Queue) > 0 && !s.reader.taking { // otherwise it is not the next part
		o.Queued = s.cursor.Queue[0].Part.Since()
	}
	return o
}

// An entry is where a subscription is in the agenda of its broker.
type entry struct {
	rank  int64 // in the list of its state: the lowest is first
	slot  int   // the index in that list
	index int   // in the broker's subs
	dirty bool  // its state is to be determined again
}

// An agenda lists what to request from one broker. Only subscriptions that have changed are
// moved between its lists, so that a wake-up of a lane costs the same with ten partitions
// and with ten thousand. Subscription.touch records a change, and broker.updateStates applies it
// before the next plan. f.mu guards all of it.
type agenda struct {
	dirty    []*Subscription // their states are to be determined again
	lookup   queue
	resting  queue    // by request.retryAt
	away     queue    // the one that got records last comes first
	behind   [2]queue // by isolation level, and by request.turn
	caughtUp [2]queue // by isolation level, and by when they took this state
}

// touch records that the state of s may have changed. It may be called before or after the
// change, as long as f.mu is held for both.
func (s *Subscription) touch() {
	if b := s.route.broker; b != nil && !s.entry.dirty {
		s.entry.dirty = true
		b.dirty = append(b.dirty, s)
	}
}

// updateStates determines the states of subscriptions that have changed or whose rest is over.
func (b *broker) updateStates(now time.Time) {
	for i := 0; i < len(b.dirty); i++ { // returnToLeader may add to them
		s := b.dirty[i]
		if s.route.broker != b {
			continue
		}
		s.entry.dirty = false
		if s.onReplica() && !s.request.inFlight && !s.route.lost && (s.paused || s.cursor.Lookup != partition.LookupNone) {
			s.returnToLeader(now) // only the leader knows where the partition begins or ends
		} else {
			b.relist(s, now)
		}
	}
	clear(b.dirty)
	b.dirty = b.dirty[:0]
	for s := b.resting.first(); s != nil && !s.request.retryAt.After(now); s = b.resting.first() {
		b.relist(s, now)
	}
}

// relist determines the state of s and puts it into the list of that state.
func (b *broker) relist(s *Subscription, now time.Time) {
	to, rank := s.currentState(now), s.entry.rank
	switch to {
	case stateResting:
		rank = sinceStart(s.request.retryAt)
	case stateAway:
		rank = math.MaxInt64
		if !s.request.recordsAt.IsZero() {
			rank = -sinceStart(s.request.recordsAt)
		}
	case stateBehind:
		rank = int64(s.request.turn)
	case stateCaughtUp:
		if s.state != stateCaughtUp {
			rank = sinceStart(now)
		}
	}
	if to == s.state && rank == s.entry.rank {
		return
	}
	b.unlist(s)
	s.state, s.entry.rank = to, rank
	if q := b.listOf(s); q != nil {
		q.push(s)
	}
}

// unlist takes s out of its list.
func (b *broker) unlist(s *Subscription) {
	if q := b.listOf(s); q != nil {
		q.remove(s)
	}
	s.state = stateNone
}

// listOf returns the list that s is in; nil if its state has none.
func (b *broker) listOf(s *Subscription) *queue {
	switch s.state {
	case stateResting:
		return &b.resting
	case stateLookup:
		return &b.lookup
	case stateAway:
		return &b.away
	case stateBehind:
		return &b.behind[s.iso]
	case stateCaughtUp:
		return &b.caughtUp[s.iso]
	}
	return nil
}

// fetchable returns how many subscriptions can be fetched.
func (b *broker) fetchable() int {
	return len(b.behind[0]) + len(b.behind[1]) + len(b.caughtUp[0]) + len(b.caughtUp[1])
}

// firstOf returns the subscription that comes first in two lists; nil if both are empty.
func firstOf(queues [2]queue) *Subscription {
	a, b := queues[0].first(), queues[1].first()
	if a == nil || b != nil && b.entry.rank < a.entry.rank {
		return b
	}
	return a
}

var processStart = time.Now()

// sinceStart converts a time to a rank. It uses the monotonic clock, because the wall clock
// may be changed meanwhile.
func sinceStart(t time.Time) int64 { return int64(t.Sub(processStart)) }

// A queue is a heap of subscriptions by rank, which know their slots in it.
type queue []*Subscription

// first returns the subscription with the lowest rank; nil if there is none.
func (q queue) first() *Subscription {
	if len(q) == 0 {
		return nil
	}
	return q[0]
}

func (q *queue) push(s *Subscription) {
	*q = append(*q, s)
	s.entry.slot = len(*q) - 1
	q.up(s.entry.slot)
}

func (q *queue) remove(s *Subscription) {
	h, i := *q, s.entry.slot
	last := len(h) - 1
	h.swap(i, last)
	h[last] = nil
	*q = h[:last]
	if i < last {
		q.down(i)
		q.up(i)
	}
}

func (q queue) swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].entry.slot, q[j].entry.slot = i, j
}

func (q queue) up(i int) {
	for i > 0 && q[i].entry.rank < q[(i-1)/2].entry.rank {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (q queue) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(q); c++ {
			if q[c].entry.rank < q[least].entry.rank {
				least = c
			}
		}
		if least == i {
			return
		}
		q.swap(i, least)
		i = least
	}
}
