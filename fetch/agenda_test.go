package fetch

import (
	"testing"
	"time"
)

// audit checks, after each plan of every test of this package, that the agenda of a
// broker gives the same result as a look through all its subscriptions.
func audit(t *testing.T, b *broker) {
	now, lists := time.Now(), 0
	for i, s := range b.subs {
		if s.index != i {
			t.Errorf("subscription %d of broker %d has index %d", i, b.id, s.index)
		}
		if q := b.list(s); q != nil {
			lists++
			if s.slot >= len(*q) || (*q)[s.slot] != s {
				t.Errorf("%s/%d is not in the list of seat %d", s.spec.Topic, s.spec.Partition, s.seat)
			}
		}
		if want := s.belongs(now); !s.touched && want != s.seat && s.seat != seatRest {
			t.Errorf("%s/%d has seat %d, want %d", s.spec.Topic, s.spec.Partition, s.seat, want)
		}
	}
	if all := b.asks() + len(b.unsure) + len(b.rest) + len(b.away); all != lists {
		t.Errorf("the lists of broker %d have %d subscriptions, want %d", b.id, all, lists)
	}
}

// TestAwayLongest: the consumer that got records last comes first of those that are away.
// One that never got any comes last, or the requests of a lane would not end in time for
// the others.
func TestAwayLongest(t *testing.T) {
	now := time.Now()
	b := new(broker)
	var subs []*Subscription
	for _, at := range []time.Time{{}, now.Add(-time.Minute), now.Add(-time.Second), {}} {
		s := &Subscription{broker: b, gotAt: at}
		subs = append(subs, s)
		b.take(s, now)
	}
	for _, want := range []int{2, 1} {
		if s := b.away.first(); s != subs[want] {
			t.Errorf("the first got records at %s, want %s", s.gotAt, subs[want].gotAt)
		}
		b.unseat(subs[want])
	}
}
