package fetch

import (
	"testing"
	"time"

	"kcagent/retry"
)

// audit checks, after each plan of every test of this package, that the agenda of a broker has the
// same result as examining all its subscriptions, and that no consumer waits for what is there.
func audit(t *testing.T, b *broker) {
	now, lists := time.Now(), 0
	for i, s := range b.subs {
		if s.closed {
			t.Errorf("%s/%d is closed", s.spec.Topic, s.spec.Partition)
		}
		if s.reader.ready != nil && s.canTake() {
			t.Errorf("%s/%d has something to take, and ready was not called", s.spec.Topic, s.spec.Partition)
		}
		if s.entry.index != i {
			t.Errorf("subscription %d of broker %d has index %d", i, b.id, s.entry.index)
		}
		if q := b.listOf(s); q != nil {
			lists++
			if s.entry.slot >= len(*q) || (*q)[s.entry.slot] != s {
				t.Errorf("%s/%d is not in the list of state %d", s.spec.Topic, s.spec.Partition, s.state)
			}
		}
		if want := s.currentState(now); !s.entry.dirty && want != s.state && s.state != stateResting {
			t.Errorf("%s/%d has state %d, want %d", s.spec.Topic, s.spec.Partition, s.state, want)
		}
	}
	if all := b.fetchable() + len(b.agenda.lookup) + len(b.resting) + len(b.away); all != lists {
		t.Errorf("the lists of broker %d have %d subscriptions, want %d", b.id, all, lists)
	}
}

// TestRecentlyServedConsumerComesFirst: the consumer that got records last comes first of those that
// are away. One that never got any comes last, or long polls would not end in time for the others.
func TestRecentlyServedConsumerComesFirst(t *testing.T) {
	now := time.Now()
	b := new(broker)
	var subs []*Subscription
	for _, at := range []time.Time{{}, now.Add(-time.Minute), now.Add(-time.Second), {}} {
		s := &Subscription{route: route{broker: b}, request: requestState{recordsAt: at}}
		subs = append(subs, s)
		b.relist(s, now)
	}
	for _, want := range []int{2, 1} {
		if s := b.away.first(); s != subs[want] {
			t.Errorf("first is the one that got records at %s, want %s", s.request.recordsAt, subs[want].request.recordsAt)
		}
		b.unlist(subs[want])
	}
}

// TestIdleLaneWakesForRestingPartition: an idle lane learns of a partition whose rest ends sooner
// than the lane would wake up, because the other lane may be in a long poll until then.
func TestIdleLaneWakesForRestingPartition(t *testing.T) {
	now := time.Now()
	f := New(Options{Settings: Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 10 * time.Second}})
	b := f.brokerAt(1, "k:9092")
	for i := range 2 {
		b.lanes = append(b.lanes, &lane{f: f, b: b, index: i, wake: retry.NewSignal()})
	}
	f.sizeBudget()
	for p := range int32(2) {
		s := f.Subscribe(Spec{Topic: "t", Partition: p, MaxBytes: 1})
		s.cursor.Confirmed, s.reader.waiting, s.cursor.HighWater = true, true, 0
		f.assignLeader(s, b, 1)
		if p == 1 {
			s.request.retryAt = now.Add(backoffFirst)
		}
	}
	asleep, works := b.lanes[0], b.lanes[1]
	asleep.idle = true
	if j, _ := works.nextJob(now); j == nil {
		t.Fatal("there is no job")
	}
	if len(asleep.wake) == 0 {
		t.Fatal("the idle lane was not woken")
	}
	if j, wait := asleep.nextJob(now); j != nil || wait > backoffFirst {
		t.Errorf("the next job is %v, or the wait is %s", j, wait)
	}
}
