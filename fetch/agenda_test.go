package fetch

import (
	"testing"
	"time"

	"kcagent/retry"
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

// TestSleepingLanesKnowWhatRests: a lane that has nothing to ask learns of a partition that
// is to be asked for sooner than that lane would wake up, for the other lane may wait for
// news of others until then.
func TestSleepingLanesKnowWhatRests(t *testing.T) {
	now := time.Now()
	f := New(Options{Settings: Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 10 * time.Second}})
	b := f.brokerAt(1, "k:9092")
	for i := range 2 {
		b.lanes = append(b.lanes, &lane{f: f, b: b, index: i, wake: retry.NewSignal()})
	}
	f.sizeBudget()
	for p := range int32(2) {
		s := f.Subscribe(Spec{Topic: "t", Partition: p, MaxBytes: 1})
		s.placed, s.reading, s.highWater = true, true, 0
		f.assign(s, b, 1)
		if p == 1 {
			s.retryAt = now.Add(backoffFirst)
		}
	}
	asleep, works := b.lanes[0], b.lanes[1]
	asleep.waiting = true
	if j, _ := works.next(now); j == nil {
		t.Fatal("nothing is asked for")
	}
	if len(asleep.wake) == 0 {
		t.Fatal("the other lane sleeps on")
	}
	if j, wait := asleep.next(now); j != nil || wait > backoffFirst {
		t.Errorf("it asks for %v, or sleeps for %s", j, wait)
	}
}
