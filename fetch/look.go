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
	Broker   string    // the leader's address; "" if it is not known
	InFlight bool      // a request waits for its answer
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
		l.Broker = s.broker.addr
	}
	return l
}
