package fetch

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/leader"
)

// TestPollLosesNoRecord: a consumer that has a goroutine only from the call of ready until the
// next Poll returns false gets each record, also if records arrive, or the subscription is
// paused or resumed, at that very moment. No two of its goroutines run at the same time.
func TestPollLosesNoRecord(t *testing.T) {
	t.Parallel()
	const records = 400
	r := newRig(t, 1, 1, smallSettings)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	var mu sync.Mutex
	var got []string
	var inside atomic.Int32
	all := make(chan struct{})
	var next func()
	next = func() {
		for s.Poll(func() { go next() }) {
			if inside.Add(1) > 1 {
				t.Error("two goroutines take records")
			}
			at, ok, err := s.Take(func(rec *batch.Record) bool {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, string(rec.Value))
				if len(got) == records {
					close(all)
				}
				return rand.IntN(3) > 0
			})
			if err == nil && ok && rand.IntN(4) == 0 {
				s.Rewind(at, leader.Unknown) // what was fetched ahead is dropped
			}
			inside.Add(-1)
			if err != nil {
				return
			}
		}
	}
	next()
	for i := 0; i < records; {
		n := min(1+rand.IntN(3), records-i)
		r.produce(0, i, n)
		i += n
		if rand.IntN(3) == 0 {
			s.Pause()
			s.Resume()
		}
	}
	select {
	case <-all:
	case <-time.After(patience):
	}
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	for i := range max(records, len(got)) {
		if i >= len(got) || got[i] != fmt.Sprint("v", i) {
			t.Fatalf("got %d records, of which record %d is wrong: %v", len(got), i, got)
		}
	}
}

// TestPollCallsReadyOnce: ready is called once for each Poll that returned false, and only for
// the last one. Close calls it, too.
func TestPollCallsReadyOnce(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	takeAll := func(ready func()) {
		for s.Poll(ready) {
			if _, _, err := s.Take(func(*batch.Record) bool { return true }); err != nil {
				t.Fatal(err)
			}
		}
	}
	var replaced, called atomic.Int32
	first := make(chan struct{})
	takeAll(func() { close(first) })
	<-first // the position is confirmed
	takeAll(func() { replaced.Add(1) })
	ready := make(chan struct{}, 10)
	if s.Poll(func() { called.Add(1); ready <- struct{}{} }) {
		t.Fatal("there is something to take")
	}
	rd := r.startReader(Spec{}, false)
	r.produce(0, 0, 1)
	<-ready
	r.produce(0, 1, 1)
	r.waitForRecords(rd, 0, 2)
	s.Pause()
	s.Resume()
	if n := called.Load(); n != 1 || replaced.Load() != 0 {
		t.Errorf("ready was called %d times, and the replaced one %d times", n, replaced.Load())
	}
	takeAll(func() { ready <- struct{}{} })
	s.Close()
	<-ready
	if !s.Poll(func() { t.Error("called after Close") }) {
		t.Error("a closed subscription has nothing to report")
	}
}

// TestPositionConfirmedDuringAPauseIsReported: the first response says that the position is out of
// range, the subscription is paused, and the lookup finds the position in range after all. ready is
// called for the consumer, which waits without a goroutine.
func TestPositionConfirmedDuringAPauseIsReported(t *testing.T) {
	called := 0
	s := &Subscription{
		f: New(Options{}), route: route{leaderEpoch: 7, lost: true},
		cursor: partition.NewCursor(5, leader.Unknown, false),
		spec:   Spec{Topic: "t", MaxBytes: 1},
	}
	ready := func() { called++ }
	if s.Poll(ready) {
		t.Fatal("there is something to take at once")
	}
	s.cursor.Lookup = partition.LookupRange // as a response sets it
	s.Pause()
	if called != 1 || s.Poll(ready) {
		t.Fatal("Pause requested no further Poll, or there is something to take before the lookup")
	}
	var later callbacks
	s.f.mu.Lock()
	s.applyOffsets(0, 10, &later)
	s.f.mu.Unlock()
	later.run()
	if _, ok, err := s.Take(func(*batch.Record) bool { return false }); called != 2 || !ok || err != nil {
		t.Errorf("ready was called %d times, want 2; Take: %v, %v", called, ok, err)
	}
}

// TestClosedSubscriptionDoesNotComeBack: a pause or a resume after Close, which an edit may cause
// between two rounds of a partition, requests nothing. The response would list the subscription
// again, and keep its consumer in memory.
func TestClosedSubscriptionDoesNotComeBack(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	if _, err := s.Read(t.Context(), func(*batch.Record) bool { return true }); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	s.Close()
	s.Resume()
	s.Pause()
	s.Resume()
	f := r.fetcher
	f.mu.Lock()
	defer f.mu.Unlock()
	s.lookUpLeader(time.Now()) // as the response to an older request does
	if len(f.lost) > 0 || len(f.subs) > 0 {
		t.Errorf("%d subscriptions are looked up, and %d exist", len(f.lost), len(f.subs))
	}
}
