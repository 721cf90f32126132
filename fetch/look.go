package fetch

import "time"

// A Look is how a subscription gets on at one moment.
type Look struct {
	// Waiting says that its consumer wants records, and nothing that is known
	// keeps them away: no pause, no error.
	Waiting  bool
	Next     int64     // where the consumer stands; negative if that is not known yet
	End      int64     // as of [Subscription.End]
	Answered time.Time // when a broker last said something of the partition
	Broker   string    // the address of the broker that is asked; "" if it is not known
	InFlight bool      // a request waits for its answer
	// Progress is when something last happened for which a partition that stands
	// still has to wait: its leader sends an answer that takes its time, or brings
	// records of others, or a replica is on trial, or a quota or the lack of memory holds requests back. What
	// is known to last is told as of its end.
	Progress time.Time
}

// Look says how the subscription gets on.
func (s *Subscription) Look() Look {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	l := Look{
		Waiting: s.reading && !s.paused && s.fatal == nil && !s.shown && !s.closed,
		Next:    s.next, End: s.end(), Answered: s.answered, InFlight: s.inFlight,
	}
	if s.broker != nil {
		l.Broker, l.Progress = s.broker.addr, s.progress()
	}
	return l
}

// progress is Look's. What others get explains nothing any more once s came first in
// a request that brought nothing.
func (s *Subscription) progress() time.Time {
	b := s.broker
	at := b.heldAt
	if s.follows() && s.onTrial && s.leaseEnds.After(at) {
		at = s.leaseEnds // then the leader is asked
	}
	if s.void {
		return at
	}
	if b.movedAt.After(at) {
		at = b.movedAt
	}
	if heard := time.Unix(0, b.heard.Load()); heard.After(at) {
		at = heard
	}
	return at
}
