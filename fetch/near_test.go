package fetch

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/leader"
)

var near1 = Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 50 * time.Millisecond, Rack: "near"}

// long is longer than a test.
var long = leaseTimes{lease: time.Hour, trial: time.Hour, leader: time.Hour}

// TestNearestReplica: records come from the replica that the leader advises, which is
// asked once for a lease.
func TestNearestReplica(t *testing.T) {
	r := newRack(t, near1, long)
	r.produce(0, 0, 10)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 10)
	r.produce(0, 10, 10)
	r.wants(rd, 0, 20)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches[0] > 0 || r.fetches[1] < 2 || r.advice != 1 {
		t.Errorf("the leader advised %d times and was asked for records %d times, the replica %d times", r.advice, r.fetches[0], r.fetches[1])
	}
}

// TestNoRack: without a rack none is named, and the leader is asked.
func TestNoRack(t *testing.T) {
	set := near1
	set.Rack = ""
	r := newRack(t, set, long)
	r.produce(0, 0, 10)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 10)
	if r.from(1) > 0 || len(r.accepted) != 1 || !r.accepted[""] {
		t.Errorf("the replica was asked %d times, the racks named are %v", r.from(1), r.accepted)
	}
	// A change of the settings applies to what runs.
	set.Rack = "near"
	r.fetcher.Update(set)
	r.eventually("the replica to be asked", func() (bool, any) { return r.from(1) > 0, r.from(1) })
	set.Rack = "far"
	r.fetcher.Update(set)
	r.eventually("the leader to be asked again", func() (bool, any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.accepted["far"], r.accepted
	})
	r.produce(0, 10, 10)
	r.wants(rd, 0, 20)
}

// TestLease: the leader is asked again after the lease, and sends the records itself once
// it advises no replica.
func TestLease(t *testing.T) {
	times := long
	times.lease = 200 * time.Millisecond
	r := newRack(t, near1, times)
	r.read(Spec{}, false)
	r.eventually("three leases", func() (bool, any) { r.mu.Lock(); defer r.mu.Unlock(); return r.advice >= 3, r.advice })
	if r.from(0) > 0 {
		t.Error("the leader was asked for records although it advised the replica")
	}
	r.set(func() { r.advised = -1 })
	r.eventually("the leader to send the records", func() (bool, any) { return r.from(0) > 0, r.from(0) })
}

// TestReplicaErrors: whatever error a replica returns, the leader sends the records at
// once, and nothing is skipped, repeated or shown.
func TestReplicaErrors(t *testing.T) {
	for _, code := range []sarama.KError{
		sarama.ErrOffsetNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrReplicaNotAvailable, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrFencedLeaderEpoch, sarama.ErrKafkaStorageError, sarama.ErrUnknownTopicOrPartition, sarama.ErrOffsetOutOfRange,
		sarama.ErrUnknown,
	} {
		t.Run(fmt.Sprint("code ", int16(code)), func(t *testing.T) {
			t.Parallel()
			r := newRack(t, near1, long)
			r.produce(0, 0, 10)
			rd := r.read(Spec{OnOutOfRange: Earliest}, false)
			r.wants(rd, 0, 10)
			r.set(func() { r.code = code })
			r.eventually("the leader to be asked", func() (bool, any) { return r.from(0) > 0, r.from(0) })
			r.produce(0, 10, 10)
			r.wants(rd, 0, 20)
			if rd.LastError() != nil || len(rd.resets) > 0 {
				t.Errorf("the error is %v, resets are %v", rd.LastError(), rd.resets)
			}
			r.set(func() {
				if slices.Contains(r.offsets, 1) {
					t.Errorf("the replica was asked for offsets: %v", r.offsets)
				}
				if code == sarama.ErrOffsetOutOfRange && len(r.offsets) == 0 {
					t.Error("the leader was not asked whether the position is out of range")
				}
			})
		})
	}
}

// TestReplicaDiverges: what a replica has not replicated yet was not truncated. Only the
// leader knows, so it looks the position up: a fetch is not enough, because a leader that
// chooses replicas without a rack would send it back.
func TestReplicaDiverges(t *testing.T) {
	r := newRack(t, near1, long)
	r.produce(0, 0, 10)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 10)
	r.set(func() { r.diverges, r.offsets = true, nil })
	r.eventually("the leader to be asked", func() (bool, any) { return r.from(0) > 0, r.from(0) })
	r.set(func() {
		if !slices.Contains(r.offsets, 0) || slices.Contains(r.offsets, 1) {
			t.Errorf("the brokers %v looked the position up, want the leader", r.offsets)
		}
	})
	r.produce(0, 10, 10)
	r.wants(rd, 0, 20)
}

// TestReplicaHangsUp: a replica that cannot be reached, or is not listed, is no longer
// used.
func TestReplicaHangsUp(t *testing.T) {
	r := newRack(t, near1, long)
	rd := r.read(Spec{}, false)
	r.produce(0, 0, 10)
	r.wants(rd, 0, 10)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if r.cluster.CurrentNode() == 1 {
			return nil, errHangUp, true
		}
		return nil, nil, false
	})
	r.produce(0, 10, 10)
	r.wants(rd, 0, 20)
	if rd.LastError() != nil {
		t.Error(rd.LastError())
	}
}

func TestUnlistedReplica(t *testing.T) {
	r := newRack(t, near1, long)
	r.set(func() { r.advised = 7 })
	r.produce(0, 0, 10)
	r.wants(r.read(Spec{}, false), 0, 10)
	if r.from(0) == 0 {
		t.Error("the leader was not asked")
	}
}

// TestAdviceWithoutRack: a leader that chooses by other means than the rack sends no
// records, so its advice is taken, and not asked for without a pause if the replica fails.
func TestAdviceWithoutRack(t *testing.T) {
	set := near1
	set.Rack = ""
	r := newRack(t, set, long)
	r.set(func() { r.always = true })
	r.produce(0, 0, 10)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 10)
	r.set(func() { r.code, r.advice = sarama.ErrOffsetNotAvailable, 0 })
	<-time.After(time.Second)
	r.set(func() {
		if r.code = 0; r.advice == 0 || r.advice > 5 {
			t.Errorf("the leader was asked %d times in a second", r.advice)
		}
	})
	r.produce(0, 10, 10)
	r.wants(rd, 0, 20)
}

// TestPartOfABatch: a replica that sends a part of a batch has records, so more is asked
// for.
func TestPartOfABatch(t *testing.T) {
	s := &Subscription{broker: &broker{id: 1}}
	s.leader, s.highWater, s.stable = 0, 10, 10
	if s.delivered(&batch.Content{WireBytes: 100}, time.Now()); !s.behind() {
		t.Error("a part of a batch counts as no records")
	}
	if s.delivered(&batch.Content{}, time.Now()); s.behind() {
		t.Error("an answer without records counts as some")
	}
}

// TestStuckReplica: a replica that sends none of the records that the leader has is no
// longer used after the trial.
func TestStuckReplica(t *testing.T) {
	times := long
	times.lease, times.trial = 200*time.Millisecond, 100*time.Millisecond
	r := newRack(t, near1, times)
	rd := r.read(Spec{}, false)
	r.produce(0, 0, 10)
	r.wants(rd, 0, 10)
	r.set(func() { r.behind = true })
	r.eventually("an answer without records", func() (bool, any) { r.mu.Lock(); defer r.mu.Unlock(); return r.empty > 0, r.empty })
	r.produce(0, 10, 10)
	r.eventually("a trial, which the watchdog waits for", func() (bool, any) { l := rd.Look(); return l.Progress.After(time.Now()), l })
	r.wants(rd, 0, 20)
}

// TestReplicaBehindShowsTheLeadersEnd: the end, and so the lag, does not move back when a
// replica knows less than the leader.
func TestReplicaBehindShowsTheLeadersEnd(t *testing.T) {
	times := long
	times.lease, times.trial = 100*time.Millisecond, 100*time.Millisecond
	r := newRack(t, near1, times)
	rd := r.read(Spec{}, false)
	r.produce(0, 0, 10)
	r.wants(rd, 0, 10)
	r.set(func() { r.behind = true })
	for range 20 {
		if end := rd.HighWaterMark(); end < 10 {
			t.Fatalf("the high-water mark is %d, was 10", end)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestPausedReplica: while a partition is paused, its leader is asked where it ends.
func TestPausedReplica(t *testing.T) {
	r := newRack(t, near1, long)
	r.fetcher.mu.Lock()
	r.fetcher.endsEvery = 20 * time.Millisecond
	r.fetcher.mu.Unlock()
	rd := r.read(Spec{}, false)
	r.produce(0, 0, 10)
	r.wants(rd, 0, 10)
	rd.Pause()
	r.produce(0, 10, 5)
	r.eventually("the end", func() (bool, any) { return rd.HighWaterMark() == 15, rd.HighWaterMark() })
	r.set(func() {
		if slices.Contains(r.offsets, 1) {
			t.Errorf("the replica was asked for offsets: %v", r.offsets)
		}
	})
	rd.Resume()
	r.wants(rd, 0, 15)
}

// TestPositionsOfReplica: only the leader reports where a partition begins, also when the
// records come from a replica.
func TestPositionsOfReplica(t *testing.T) {
	r := newRack(t, near1, long)
	r.produce(0, 0, 10)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	t.Cleanup(s.Close)
	ctx, _ := contextOf(t)
	read := func() {
		t.Helper()
		for next := int64(0); next < 10; {
			var err error
			if next, err = s.Read(ctx, func(*batch.Record) bool { return true }); err != nil {
				t.Fatal(err)
			}
		}
	}
	read()
	s.Rewind(sarama.OffsetOldest, leader.Unknown)
	read()
	r.set(func() {
		if !slices.Contains(r.offsets, 0) || slices.Contains(r.offsets, 1) || r.fetches[1] == 0 {
			t.Errorf("the brokers %v were asked for offsets, the replica for records %d times", r.offsets, r.fetches[1])
		}
	})
}

// TestReplicaFailsForAll: subscriptions that wait for their turn at a replica leave it with
// the one whose request failed.
func TestReplicaFailsForAll(t *testing.T) {
	set := near1
	set.Lanes = 1
	r := newRack(t, set, long)
	r.produce(0, 0, 10)
	one, two := r.read(Spec{}, false), r.read(Spec{ReadCommitted: true}, false) // two requests
	r.wants(one, 0, 10)
	r.wants(two, 0, 10)
	var failed atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if r.cluster.CurrentNode() == 1 {
			failed.Add(1)
			return nil, errHangUp, true
		}
		return nil, nil, false
	})
	r.eventually("an error", func() (bool, any) { return failed.Load() > 0, nil })
	r.produce(0, 10, 10)
	r.wants(one, 0, 20)
	r.wants(two, 0, 20)
	if n := failed.Load(); n > 2 { // a request that fails on a connection in use is sent again
		t.Errorf("%d requests to the replica failed", n)
	}
}
