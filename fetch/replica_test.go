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
	"kcagent/fetch/partition"
	"kcagent/leader"
)

var rackSettings = Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 50 * time.Millisecond, Rack: "near"}

// longLeases is longer than a test.
var longLeases = leaseTimes{lease: time.Hour, trial: time.Hour, afterError: time.Hour}

// TestReadsFromNearestReplica: records come from the replica that the leader advises. The leader is
// asked once for each lease.
func TestReadsFromNearestReplica(t *testing.T) {
	r := newRack(t, rackSettings, longLeases)
	r.produce(0, 0, 10)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 10)
	r.produce(0, 10, 10)
	r.waitForRecords(rd, 0, 20)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches[0] > 0 || r.fetches[1] < 2 || r.advice != 1 {
		t.Errorf("the leader advised %d times and answered %d fetches, the replica %d", r.advice, r.fetches[0], r.fetches[1])
	}
}

// TestWithoutRackLeaderIsRead: without a rack, requests name none, and the leader sends the records.
func TestWithoutRackLeaderIsRead(t *testing.T) {
	set := rackSettings
	set.Rack = ""
	r := newRack(t, set, longLeases)
	r.produce(0, 0, 10)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 10)
	if r.from(1) > 0 || len(r.accepted) != 1 || !r.accepted[""] {
		t.Errorf("the replica answered %d fetches, the racks in requests are %v", r.from(1), r.accepted)
	}
	// A change of the settings applies to running subscriptions.
	set.Rack = "near"
	r.fetcher.Update(set)
	r.eventually("a fetch from the replica", func() (bool, any) { return r.from(1) > 0, r.from(1) })
	set.Rack = "far"
	r.fetcher.Update(set)
	r.eventually("another fetch from the leader", func() (bool, any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.accepted["far"], r.accepted
	})
	r.produce(0, 10, 10)
	r.waitForRecords(rd, 0, 20)
}

// TestLeaderIsAskedAfterLease: the leader is asked again after the lease. It sends the records itself
// once it advises no replica.
func TestLeaderIsAskedAfterLease(t *testing.T) {
	times := longLeases
	times.lease = 200 * time.Millisecond
	r := newRack(t, rackSettings, times)
	r.startReader(Spec{}, false)
	r.eventually("three leases", func() (bool, any) { r.mu.Lock(); defer r.mu.Unlock(); return r.advice >= 3, r.advice })
	if r.from(0) > 0 {
		t.Error("records were fetched from the leader although it advised the replica")
	}
	r.set(func() { r.advised = -1 })
	r.eventually("records from the leader", func() (bool, any) { return r.from(0) > 0, r.from(0) })
}

// TestReplicaErrorReturnsToLeader: whatever error a replica returns, the leader sends the records at
// once, no record is skipped or repeated, and no error is visible.
func TestReplicaErrorReturnsToLeader(t *testing.T) {
	for _, code := range []sarama.KError{
		sarama.ErrOffsetNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrReplicaNotAvailable, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrFencedLeaderEpoch, sarama.ErrKafkaStorageError, sarama.ErrUnknownTopicOrPartition, sarama.ErrOffsetOutOfRange,
		sarama.ErrUnknown,
	} {
		t.Run(fmt.Sprint("code ", int16(code)), func(t *testing.T) {
			t.Parallel()
			r := newRack(t, rackSettings, longLeases)
			r.produce(0, 0, 10)
			rd := r.startReader(Spec{OnOutOfRange: partition.Earliest}, false)
			r.waitForRecords(rd, 0, 10)
			r.set(func() { r.code = code })
			r.eventually("a fetch from the leader", func() (bool, any) { return r.from(0) > 0, r.from(0) })
			r.produce(0, 10, 10)
			r.waitForRecords(rd, 0, 20)
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

// TestReplicaBehindIsNoTruncation: records that a replica does not have yet were not truncated. Only
// the leader knows, so it looks the position up. A fetch is not enough, because a leader that advises
// replicas without knowing a rack would send it back.
func TestReplicaBehindIsNoTruncation(t *testing.T) {
	r := newRack(t, rackSettings, longLeases)
	r.produce(0, 0, 10)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 10)
	r.set(func() { r.diverges, r.offsets = true, nil })
	r.eventually("a fetch from the leader", func() (bool, any) { return r.from(0) > 0, r.from(0) })
	r.set(func() {
		if !slices.Contains(r.offsets, 0) || slices.Contains(r.offsets, 1) {
			t.Errorf("the brokers %v looked the position up, want the leader", r.offsets)
		}
	})
	r.produce(0, 10, 10)
	r.waitForRecords(rd, 0, 20)
}

// TestUnreachableReplicaIsAbandoned: a replica that cannot be reached is no longer used.
func TestUnreachableReplicaIsAbandoned(t *testing.T) {
	r := newRack(t, rackSettings, longLeases)
	rd := r.startReader(Spec{}, false)
	r.produce(0, 0, 10)
	r.waitForRecords(rd, 0, 10)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if r.cluster.CurrentNode() == 1 {
			return nil, errHangUp, true
		}
		return nil, nil, false
	})
	r.produce(0, 10, 10)
	r.waitForRecords(rd, 0, 20)
	if rd.LastError() != nil {
		t.Error(rd.LastError())
	}
}

// TestUnlistedReplicaIsNotUsed: the leader sends the records if it advises a broker that the metadata
// does not list.
func TestUnlistedReplicaIsNotUsed(t *testing.T) {
	r := newRack(t, rackSettings, longLeases)
	r.set(func() { r.advised = 7 })
	r.produce(0, 0, 10)
	r.waitForRecords(r.startReader(Spec{}, false), 0, 10)
	if r.from(0) == 0 {
		t.Error("no record was fetched from the leader")
	}
}

// TestAdviceWithoutRackIsFollowed: a leader that advises replicas without knowing a rack sends no
// records. So its advice is followed. If the replica fails, the leader is not asked without a pause.
func TestAdviceWithoutRackIsFollowed(t *testing.T) {
	t.Parallel()
	set := rackSettings
	set.Rack = ""
	r := newRack(t, set, longLeases)
	r.set(func() { r.always = true })
	r.produce(0, 0, 10)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 10)
	began := time.Now()
	r.set(func() { r.code, r.advice = sarama.ErrOffsetNotAvailable, 0 })
	<-time.After(time.Second)
	r.eventually("another request to the leader", func() (asked bool, _ any) {
		r.set(func() { asked = r.advice > 0 })
		return asked, nil
	})
	r.set(func() {
		if r.code = 0; int32(r.advice) > scale(5, time.Second, began) {
			t.Errorf("the leader was asked %d times in %v", r.advice, time.Since(began))
		}
	})
	r.produce(0, 10, 10)
	r.waitForRecords(rd, 0, 20)
}

// TestPartOfBatchCountsAsRecords: a replica that sends a part of a batch has records, so more bytes
// are requested.
func TestPartOfBatchCountsAsRecords(t *testing.T) {
	s := &Subscription{route: route{broker: &broker{id: 1}}}
	s.route.leader, s.cursor.HighWater, s.cursor.LastStable = 0, 10, 10
	if s.recordReplicaResponse(&batch.Content{WireBytes: 100}, time.Now()); !s.behind() {
		t.Error("a part of a batch does not count as records")
	}
	if s.recordReplicaResponse(&batch.Content{}, time.Now()); s.behind() {
		t.Error("a response without records counts as records")
	}
}

// TestReplicaWithoutRecordsIsAbandoned: a replica that sends none of the records that the leader has
// is no longer used after the trial.
func TestReplicaWithoutRecordsIsAbandoned(t *testing.T) {
	times := longLeases
	times.lease, times.trial = 200*time.Millisecond, 100*time.Millisecond
	r := newRack(t, rackSettings, times)
	rd := r.startReader(Spec{}, false)
	r.produce(0, 0, 10)
	r.waitForRecords(rd, 0, 10)
	r.set(func() { r.behind = true })
	r.eventually("a response without records", func() (bool, any) { r.mu.Lock(); defer r.mu.Unlock(); return r.empty > 0, r.empty })
	r.produce(0, 10, 10)
	r.eventually("a trial, which counts as progress", func() (bool, any) { l := rd.Progress(); return l.LastEvent.After(time.Now()), l })
	r.waitForRecords(rd, 0, 20)
}

// TestReplicaDoesNotLowerEnd: the end, and so the lag, does not move back when a replica knows less
// than the leader.
func TestReplicaDoesNotLowerEnd(t *testing.T) {
	times := longLeases
	times.lease, times.trial = 100*time.Millisecond, 100*time.Millisecond
	r := newRack(t, rackSettings, times)
	rd := r.startReader(Spec{}, false)
	r.produce(0, 0, 10)
	r.waitForRecords(rd, 0, 10)
	r.set(func() { r.behind = true })
	for range 20 {
		if end := rd.HighWaterMark(); end < 10 {
			t.Fatalf("the high-water mark is %d, was 10", end)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestPausedPartitionAsksLeaderForEnd: while a partition is paused, its leader is asked for its end.
func TestPausedPartitionAsksLeaderForEnd(t *testing.T) {
	r := newRack(t, rackSettings, longLeases)
	r.fetcher.mu.Lock()
	r.fetcher.endsInterval = 20 * time.Millisecond
	r.fetcher.mu.Unlock()
	rd := r.startReader(Spec{}, false)
	r.produce(0, 0, 10)
	r.waitForRecords(rd, 0, 10)
	rd.Pause()
	r.produce(0, 10, 5)
	r.eventually("the end", func() (bool, any) { return rd.HighWaterMark() == 15, rd.HighWaterMark() })
	r.set(func() {
		if slices.Contains(r.offsets, 1) {
			t.Errorf("the replica was asked for offsets: %v", r.offsets)
		}
	})
	rd.Resume()
	r.waitForRecords(rd, 0, 15)
}

// TestOnlyLeaderLooksUpPositions: only the leader reports where a partition begins, also when the
// records come from a replica.
func TestOnlyLeaderLooksUpPositions(t *testing.T) {
	r := newRack(t, rackSettings, longLeases)
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
			t.Errorf("the brokers %v looked up offsets, and the replica answered %d fetches", r.offsets, r.fetches[1])
		}
	})
}

// TestReplicaFailureConcernsAllSubscriptions: all subscriptions leave a replica together with the one
// whose request failed.
func TestReplicaFailureConcernsAllSubscriptions(t *testing.T) {
	set := rackSettings
	set.Lanes = 1
	r := newRack(t, set, longLeases)
	r.produce(0, 0, 10)
	one, two := r.startReader(Spec{}, false), r.startReader(Spec{ReadCommitted: true}, false) // two requests
	r.waitForRecords(one, 0, 10)
	r.waitForRecords(two, 0, 10)
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
	r.waitForRecords(one, 0, 20)
	r.waitForRecords(two, 0, 20)
	if n := failed.Load(); n > 2 { // a request that fails on a connection in use is sent again
		t.Errorf("%d requests to the replica failed", n)
	}
}
