package fetch

import (
	"math"
	"time"
)

// A seat names the list of its broker's agenda that a subscription is in.
type seat int8

const (
	seatNone   seat = iota // nothing to ask: in flight, paused, lost or closed
	seatAway               // its consumer is busy, and may come back for more
	seatRest               // waits until retryAt
	seatUnsure             // its position is to be looked up
	seatHot                // fetchable, with records waiting
	seatIdle               // fetchable, without news
)

// A place is where a subscription is in the agenda of its broker.
type place struct {
	seat    seat
	rank    int64 // in the list of the seat: the lowest is first
	slot    int   // the index in that list
	index   int   // in the broker's subs
	touched bool  // the seat is to be determined again
}

// An agenda lists what to request from one broker. Only subscriptions that have changed are
// moved between its lists, so that a wake-up of a lane costs the same with ten partitions
// and with ten thousand. Subscription.touch notes a change, and settle applies it before
// the next plan. f.mu guards all of it.
type agenda struct {
	changed []*Subscription // their seats are to be determined again
	unsure  queue
	rest    queue    // by retryAt
	away    queue    // the one that got records last comes first
	hot     [2]queue // by isolation level, and by served
	idle    [2]queue // by isolation level, and by when they took the seat
}

// fetchable reports whether a request for records of s may be sent.
func (s *Subscription) fetchable() bool {
	return (s.reading || s.eager) && s.room() && !s.paused && s.want == lookupNone && s.askable()
}

// room reports whether another part may be fetched: one ahead of the part that the consumer
// reads.
func (s *Subscription) room() bool {
	return len(s.queue) == 0 || len(s.queue) == 1 && s.queue[0].begun
}

// unsure reports whether the leader is to be asked for the position now: not before the
// parts that were fetched are read.
func (s *Subscription) unsure() bool {
	return s.want != lookupNone && len(s.queue) == 0 && !s.busy && s.askable()
}

// askable reports whether a request for s may be sent.
func (s *Subscription) askable() bool {
	return !s.closed && s.fatal == nil && !s.inFlight && !s.lost && !s.moved
}

// touch notes that the seat of s may have changed. It may be called before or after
// the change, as long as f.mu is held for both.
func (s *Subscription) touch() {
	if s.broker != nil && !s.touched {
		s.touched = true
		s.broker.changed = append(s.broker.changed, s)
	}
}

// settle determines the seats of subscriptions that have changed or whose wait is over.
func (b *broker) settle(now time.Time) {
	for i := 0; i < len(b.changed); i++ { // toLeader may add to them
		s := b.changed[i]
		if s.broker != b {
			continue
		}
		s.touched = false
		if s.follows() && !s.inFlight && !s.lost && (s.paused || s.want != lookupNone) {
			s.toLeader(now) // it is to be asked where the partition begins or ends
		} else {
			b.take(s, now)
		}
	}
	clear(b.changed)
	b.changed = b.changed[:0]
	for s := b.rest.first(); s != nil && !s.retryAt.After(now); s = b.rest.first() {
		b.take(s, now)
	}
}

// take puts s into the list in which it belongs now.
func (b *broker) take(s *Subscription, now time.Time) {
	to, rank := s.belongs(now), s.rank
	switch to {
	case seatRest:
		rank = sinceBoot(s.retryAt)
	case seatAway:
		rank = math.MaxInt64
		if !s.gotAt.IsZero() {
			rank = -sinceBoot(s.gotAt)
		}
	case seatHot:
		rank = int64(s.served)
	case seatIdle:
		if s.seat != seatIdle {
			rank = sinceBoot(now)
		}
	}
	if to == s.seat && rank == s.rank {
		return
	}
	b.unseat(s)
	s.seat, s.rank = to, rank
	if q := b.list(s); q != nil {
		q.push(s)
	}
}

// belongs returns the seat that s should have.
func (s *Subscription) belongs(now time.Time) seat {
	switch {
	case s.broker == nil || s.inFlight:
		return seatNone
	case s.retryAt.After(now):
		return seatRest
	case s.unsure():
		return seatUnsure
	case s.fetchable() && s.behind():
		return seatHot
	case s.fetchable():
		return seatIdle
	case !s.closed && s.fatal == nil && !s.lost && !s.paused:
		return seatAway
	}
	return seatNone
}

// unseat takes s out of its list.
func (b *broker) unseat(s *Subscription) {
	if q := b.list(s); q != nil {
		q.remove(s)
	}
	s.seat = seatNone
}

// list returns the list that s is in.
func (b *broker) list(s *Subscription) *queue {
	switch s.seat {
	case seatAway:
		return &b.away
	case seatRest:
		return &b.rest
	case seatUnsure:
		return &b.unsure
	case seatHot:
		return &b.hot[s.iso]
	case seatIdle:
		return &b.idle[s.iso]
	}
	return nil
}

// asks returns how many subscriptions can be fetched.
func (b *broker) asks() int { return len(b.hot[0]) + len(b.hot[1]) + len(b.idle[0]) + len(b.idle[1]) }

// oldest returns the first of two lists.
func oldest(queues [2]queue) *Subscription {
	a, b := queues[0].first(), queues[1].first()
	if a == nil || b != nil && b.rank < a.rank {
		return b
	}
	return a
}

var boot = time.Now()

// sinceBoot converts a time to a rank. It uses the monotonic clock, because the wall clock
// may be set meanwhile.
func sinceBoot(t time.Time) int64 { return int64(t.Sub(boot)) }

// A queue is a heap by rank, whose members know their slots.
type queue []*Subscription

// first returns the one with the lowest rank, or nil.
func (q queue) first() *Subscription {
	if len(q) == 0 {
		return nil
	}
	return q[0]
}

func (q *queue) push(s *Subscription) {
	*q = append(*q, s)
	s.slot = len(*q) - 1
	q.up(s.slot)
}

func (q *queue) remove(s *Subscription) {
	h, i := *q, s.slot
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
	q[i].slot, q[j].slot = i, j
}

func (q queue) up(i int) {
	for i > 0 && q[i].rank < q[(i-1)/2].rank {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (q queue) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(q); c++ {
			if q[c].rank < q[least].rank {
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
