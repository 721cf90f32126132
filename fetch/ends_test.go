package fetch

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
)

// end returns the end of the partition as far as it is known now.
func (rd *reader) end() int64 { return rd.Outlook(time.Now()).End }

func (r *rig) waitForEnd(rd *reader, want int64) {
	r.Helper()
	r.eventually("the end", func() (bool, any) { end := rd.end(); return end == want, end })
}

// setEndTimes sets how often the ends are looked up, and how long they count as known.
func (r *rig) setEndTimes(interval, lasts time.Duration) {
	r.fetcher.mu.Lock()
	defer r.fetcher.mu.Unlock()
	r.fetcher.endsInterval, r.fetcher.endLasts = interval, lasts
}

// TestEndIsKnownWhileBrokersReportIt: of a running, a paused and a blocked consumer alike. It is
// unknown before the first report, and when brokers have not responded for some time.
func TestEndIsKnownWhileBrokersReportIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, smallSettings)
	r.setEndTimes(50*time.Millisecond, 500*time.Millisecond)
	var down atomic.Bool
	r.cluster.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return nil, errHangUp, down.Load()
	})
	r.produce(0, 0, 10)
	down.Store(true)
	all := map[string]*reader{
		"running": r.startReader(Spec{}, false), "paused": r.startReader(Spec{Paused: true}, false), "blocked": r.startReader(Spec{}, true),
	}
	for name, rd := range all {
		if end := rd.end(); end >= 0 {
			t.Errorf("%s: the end is %d before a broker has reported it", name, end)
		}
	}
	for i := range 2 { // the second time after an outage
		down.Store(false)
		for _, rd := range all {
			r.waitForEnd(rd, int64(10+5*i))
		}
		r.produce(0, 10+5*i, 5)
		for _, rd := range all {
			r.waitForEnd(rd, int64(15+5*i))
		}
		down.Store(true)
		for name, rd := range all {
			r.waitForEnd(rd, -1)
			if end := rd.HighWaterMark(); end != int64(15+5*i) {
				t.Errorf("%s: the high-water mark is %d, want the last that was reported", name, end)
			}
		}
	}
}

// TestEndOfCommittedRecordsIsLastStableOffset, while the consumer is paused, too.
func TestEndOfCommittedRecordsIsLastStableOffset(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 3)
	client := r.newClient(kgo.TransactionalID("a"))
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r.send(client, &kgo.Record{Value: []byte("open")})
	for _, spec := range []Spec{
		{Offset: sarama.OffsetOldest, ReadCommitted: true, Paused: true}, {Offset: 1, ReadCommitted: true, Paused: true}, {ReadCommitted: true},
	} {
		rd := r.startReader(spec, false)
		r.eventually("an end", func() (bool, any) { end := rd.end(); return end >= 0, end })
		if end := rd.end(); end != 3 {
			t.Errorf("%+v: the end is %d, want 3, where the open transaction begins", spec, end)
		}
	}
	if err := client.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

// TestEndOfLostPositionIsUnknown: how far a position is behind says nothing if the log does not have
// it.
func TestEndOfLostPositionIsUnknown(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 10)
	s := r.fetcher.Subscribe(Spec{Topic: "t", Offset: 100, MaxBytes: 1 << 20, OnOutOfRange: partition.Fail})
	t.Cleanup(s.Close)
	rd := &reader{Subscription: s}
	ctx, _ := contextOf(t)
	go func() { _ = s.Wait(ctx) }()
	r.waitForError(rd, "out of range")
	if end := rd.end(); end != -1 {
		t.Errorf("the end is %d", end)
	}
}

// TestTimeOfFetchedRecordsIsKnown before the consumer takes them, and unknown once it has taken all.
func TestTimeOfFetchedRecordsIsKnown(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	first := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r.send(r.producer, &kgo.Record{Timestamp: first}, &kgo.Record{Timestamp: first.Add(time.Minute)})
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	t.Cleanup(s.Close)
	ctx, _ := contextOf(t)
	queued := func() time.Time { return s.Outlook(time.Now()).Queued }
	for queued().IsZero() {
		if err := s.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if !queued().IsZero() {
			break
		}
		if _, _, err := s.Take(func(*batch.Record) bool { return false }); err != nil { // takes the position
			t.Fatal(err)
		}
	}
	if got := queued(); !got.Equal(first) {
		t.Errorf("the time is %v, want %v", got, first)
	}
	for !queued().IsZero() {
		if _, err := s.Read(ctx, func(*batch.Record) bool {
			if at := queued(); !at.IsZero() {
				t.Errorf("the time is %v while the records are taken", at)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndOfPausedPartitionIsLookedUpSoon: much sooner than the ends are looked up again.
func TestEndOfPausedPartitionIsLookedUpSoon(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 3 s")
	}
	r := newRig(t, 1, 2, smallSettings)
	r.setEndTimes(30*time.Second, time.Minute)
	r.produce(0, 0, 10)
	r.produce(1, 0, 10)
	r.waitForRecords(r.startReader(Spec{}, false), 0, 10)
	r.waitForEnd(r.startReader(Spec{Offset: 3, Partition: 1, Paused: true}, false), 10)
}

// TestManyPausedConsumersShareLookupsOfEnds: one request for each leader and isolation level, and at
// most two in each interval, however many consumers are paused.
func TestManyPausedConsumersShareLookupsOfEnds(t *testing.T) {
	const brokers, partitions, consumers = 2, 10, 1000
	r := newRig(t, brokers, partitions, smallSettings)
	const interval = 400 * time.Millisecond
	r.setEndTimes(interval, time.Minute)
	n, began := r.countRequests(), time.Now()
	var all []*reader
	for i := range consumers {
		s := r.fetcher.Subscribe(Spec{Topic: "t", Partition: int32(i % partitions), MaxBytes: 1 << 20, Paused: true, ReadCommitted: i%3 == 0})
		t.Cleanup(s.Close)
		all = append(all, &reader{Subscription: s})
	}
	for i := range 4 {
		for p := range partitions {
			r.produce(int32(p), 5*i, 5)
		}
		for _, rd := range all {
			r.waitForEnd(rd, int64(5*i+5))
		}
	}
	took := time.Since(began)
	limit := 2 * brokers * (2 + int32(took/(interval/2)))
	if got := n.offsets.Load(); got > limit {
		t.Errorf("%d consumers caused %d lookups of ends in %v, want at most %d", consumers, got, took, limit)
	}
	if got := n.fetches.Load(); got > 0 {
		t.Errorf("paused consumers caused %d fetches", got)
	}
	t.Log(n, took)
}
