package fetch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/leader"
)

// TestTransactions reads committed, aborted and open transactions of two producers, interleaved with
// records outside transactions.
func TestTransactions(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	begin := func(id string) *kgo.Client {
		c := r.newClient(kgo.TransactionalID(id))
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	end := func(c *kgo.Client, how kgo.TransactionEndTry) {
		if err := c.EndTransaction(context.Background(), how); err != nil {
			t.Fatal(err)
		}
	}
	value := func(v string) *kgo.Record { return &kgo.Record{Value: []byte(v)} }
	a, b := begin("a"), begin("b")
	r.send(a, value("a1"))
	r.send(b, value("b1"))
	r.send(r.producer, value("p1"))
	r.send(a, value("a2"))
	end(a, kgo.TryAbort)
	r.send(b, value("b2"))
	end(b, kgo.TryCommit)
	if err := a.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r.send(a, value("a3"))
	r.send(r.producer, value("p2"))

	committed, all := r.startReader(Spec{ReadCommitted: true}, false), r.startReader(Spec{}, false)
	values := func(rd *reader) string {
		got, _, _ := rd.seen()
		var vs []string
		for _, g := range got {
			vs = append(vs, strings.SplitAfter(g, "=")[1])
		}
		return strings.Join(vs, " ")
	}
	wants := func(rd *reader, want string) {
		r.Helper()
		r.eventually(want, func() (bool, any) { got := values(rd); return got == want, got })
	}
	wants(all, "a1 b1 p1 a2 b2 a3 p2")
	wants(committed, "b1 p1 b2")
	now := time.Now()
	if of, all := committed.Outlook(now).End, all.Outlook(now).End; of >= committed.HighWaterMark() || all != committed.HighWaterMark() {
		t.Errorf("with an open transaction the ends are %d and %d, the high-water mark %d", of, all, committed.HighWaterMark())
	}
	end(a, kgo.TryCommit)
	wants(committed, "b1 p1 b2 a3 p2")
	for _, rd := range []*reader{committed, all} {
		r.eventually("a position after the markers", func() (bool, any) {
			_, next, _ := rd.seen()
			return next == rd.HighWaterMark(), next
		})
	}
}

// TestStuckConsumersDelayNoOther: consumers that do not read take part in no request, and parts that
// were fetched for them are dropped, so that little memory is enough for the others. Once they read,
// they get all records.
func TestStuckConsumersDelayNoOther(t *testing.T) {
	t.Parallel()
	set := Settings{Lanes: 1, MaxBytes: 256 << 10, MaxWait: 20 * time.Millisecond}
	r := newRig(t, 1, 8, set)
	large := r.newClient(kgo.ProducerBatchCompression(kgo.NoCompression()))
	const records = 60
	pad := strings.Repeat("x", 20<<10)
	for p := range int32(8) {
		for i := range records {
			r.send(large, &kgo.Record{Partition: p, Value: []byte(fmt.Sprint("v", i, pad))})
		}
	}
	var stuck []*reader
	for p := range int32(7) {
		for range 5 {
			stuck = append(stuck, r.startReader(Spec{Partition: p}, true))
		}
	}
	for _, rd := range stuck {
		r.eventually("the first records of all", func() (bool, any) { got, _, _ := rd.seen(); return len(got) > 0, len(got) })
	}
	free := r.startReader(Spec{Partition: 7}, false)
	r.eventually("all records", func() (bool, any) { got, _, _ := free.seen(); return len(got) == records, len(got) })
	for _, rd := range stuck {
		if got, _, _ := rd.seen(); len(got) == records {
			t.Fatal("a stuck reader was not stuck")
		}
		close(rd.gate)
	}
	for _, rd := range stuck {
		r.eventually("all records", func() (bool, any) { got, _, _ := rd.seen(); return len(got) == records, len(got) })
	}
}

// TestMemoryIsBounded: two hundred consumers of large records hold no more memory than the settings
// allow, and one batch.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	set := Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}
	r := newRig(t, 1, 20, set)
	large := r.newClient(kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := make([]byte, 200<<10)
	for p := range int32(20) {
		for range 10 {
			r.send(large, &kgo.Record{Partition: p, Value: value})
		}
	}
	var done atomic.Int32
	for i := range 200 {
		spec := Spec{Topic: "t", Partition: int32(i % 20), MaxBytes: 1 << 20}
		s := r.fetcher.Subscribe(spec)
		go func() {
			defer done.Add(1)
			defer s.Close()
			for n := 0; n < 10; {
				if _, err := s.Read(context.Background(), func(*batch.Record) bool { n++; return false }); err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 {
					<-time.After(3 * time.Millisecond) // a slow sink
				}
			}
		}()
	}
	r.eventually("all records of all consumers", func() (bool, any) { return done.Load() == 200, done.Load() })
	f := r.fetcher
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := int64(set.Lanes*set.MaxBytes) + 2*256<<10
	if f.budget.peak > limit || f.budget.peak < limit/8 {
		t.Errorf("%d bytes were promised or kept, and the limit is %d", f.budget.peak, limit)
	}
	if f.budget.kept != 0 {
		t.Errorf("%d bytes are still counted", f.budget.kept)
	}
}

// TestQuotaIsRespected: a response that is empty because of a quota is not an error, and no request is
// sent for as long as the broker says.
func TestQuotaIsRespected(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, smallSettings)
	var asked atomic.Int32
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		if asked.Add(1) > 4 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		resp.ThrottleMillis = 400
		return resp, nil, true
	})
	r.produce(0, 0, 10)
	began := time.Now()
	var changed atomic.Int32
	rd := r.startReader(Spec{Changed: func() { changed.Add(1) }}, false)
	r.waitForRecords(rd, 0, 10)
	if took := time.Since(began); took < 1200*time.Millisecond || changed.Load() > 0 {
		t.Errorf("it took %s, and an error was visible %d times", took, changed.Load())
	}
}

// TestPausedPartitionFollowsItsLeader: no fetch reports the new leader of a paused partition.
func TestPausedPartitionFollowsItsLeader(t *testing.T) {
	r := newRig(t, 2, 1, smallSettings)
	if err := r.cluster.MoveTopicPartition("t", 0, 1); err != nil {
		t.Fatal(err)
	}
	rd := r.startReader(Spec{Paused: true}, false)
	r.produce(0, 0, 10)
	r.eventually("the end", func() (bool, any) { n := rd.HighWaterMark(); return n == 10, n })
	if err := r.cluster.MoveTopicPartition("t", 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.RemoveNode(1); err != nil {
		t.Fatal(err)
	}
	r.produce(0, 10, 10)
	r.eventually("the new end", func() (bool, any) { n := rd.HighWaterMark(); return n == 20, n })
	rd.Resume()
	r.waitForRecords(rd, 0, 20)
}

// TestInvalidOffsetResponsesAreRetried: lookups with invalid responses are repeated, with pauses.
func TestInvalidOffsetResponsesAreRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 3, smallSettings)
	var asked atomic.Int32
	var bad atomic.Bool
	bad.Store(true)
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if !bad.Load() {
			return nil, nil, false
		}
		asked.Add(1)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse) // without the partitions
		return resp, nil, true
	})
	var readers []*reader
	for p := range int32(3) {
		readers = append(readers, r.startReader(Spec{Partition: p, Offset: sarama.OffsetOldest}, false))
	}
	for _, rd := range readers {
		r.waitForError(rd, "fetch t/")
	}
	if n := asked.Load(); n > 100 {
		t.Errorf("it was looked up %d times in a second", n)
	}
	bad.Store(false)
	for p, rd := range readers {
		r.produce(int32(p), 0, 5)
		r.waitForRecords(rd, 0, 5)
		r.waitForRecovery(rd)
	}
}

// TestIsolationLevelsShareOneLane: subscriptions of different isolation levels cannot share a request.
func TestIsolationLevelsShareOneLane(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 64 << 10, MaxWait: 50 * time.Millisecond})
	r.produce(0, 0, 50_000)
	hot := r.startReader(Spec{MaxBytes: 1 << 10}, false)
	quiet := r.startReader(Spec{Partition: 1, ReadCommitted: true}, false)
	for i := range 5 {
		r.produce(1, i, 1)
		r.waitForRecords(quiet, 0, i+1)
	}
	r.waitForRecords(hot, 0, 50_000)
}

// TestConsumerWithOutdatedEndIsFetched: a slow consumer of a partition is fetched although the end that
// it knows is outdated.
func TestConsumerWithOutdatedEndIsFetched(t *testing.T) {
	r := newRig(t, 1, 1, Settings{Lanes: 1, MaxBytes: 64 << 10, MaxWait: 30 * time.Millisecond})
	r.produce(0, 0, 1)
	slow, fast := r.startReader(Spec{}, true), r.startReader(Spec{}, false)
	r.waitForRecords(fast, 0, 1)
	r.waitForRecords(slow, 0, 1)
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan int)
	go func() {
		n := 1
		for ; ctx.Err() == nil; n++ {
			if err := r.producer.ProduceSync(context.Background(), &kgo.Record{Value: fmt.Appendf(nil, "v%d", n)}).FirstErr(); err != nil {
				t.Error(err)
			}
		}
		stopped <- n
	}()
	<-time.After(2 * unreadAfter) // behind, and away for long
	close(slow.gate)
	began := time.Now()
	r.eventually("more records of the slow consumer", func() (bool, any) { got, _, _ := slow.seen(); return len(got) > 1, len(got) })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("its records arrived after %s", took)
	}
	stop()
	n := <-stopped
	r.waitForRecords(slow, 0, n)
	r.waitForRecords(fast, 0, n)
}

// TestNoRecordIsSkippedOrRepeated pauses, rewinds and resumes at random while records arrive, and
// closes in the end. It does so for eight rounds, and then waits for a record: on a busy machine, each
// response would be late otherwise.
func TestNoRecordIsSkippedOrRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 1, smallSettings)
	const total = 30_000
	go func() {
		for i := 0; i < total; i += 100 {
			recs := make([]*kgo.Record, 100)
			for k := range recs {
				recs[k] = &kgo.Record{Value: fmt.Appendf(nil, "v%d", i+k)}
			}
			if err := r.producer.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
				t.Error(err)
			}
		}
	}()
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 8 << 10, Paused: true})
	ctx, cancel := contextOf(t)
	meddled := make(chan struct{})
	var reads atomic.Int64
	go func() {
		defer close(meddled)
		for i := 0; ctx.Err() == nil; i++ {
			for before := reads.Load(); i%32 == 2 && ctx.Err() == nil && reads.Load() == before; {
				<-time.After(time.Millisecond)
			}
			switch i % 4 {
			case 0:
				s.Resume()
			case 1:
				s.SetMaxBytes(1<<10 + i%7*1000)
			case 2:
				s.Pause()
			case 3:
				_ = r.cluster.MoveTopicPartition("t", 0, int32(i/4%2))
			}
			<-time.After(time.Millisecond)
		}
	}()
	var got int64
	for n := 0; got < total; n++ {
		var size int64
		next, err := s.Read(t.Context(), func(rec *batch.Record) bool {
			if rec.Offset != got+size || string(rec.Value) != fmt.Sprint("v", rec.Offset) {
				t.Fatalf("got record %d=%s, want offset %d", rec.Offset, rec.Value, got+size)
			}
			size++
			return size < 37
		})
		if err != nil {
			t.Fatal(err)
		}
		reads.Add(1)
		if n%5 == 4 { // could not be stored
			s.Rewind(got, leader.Unknown)
			continue
		}
		got += size
		if next != got {
			t.Fatalf("next is %d after record %d", next, got-1)
		}
	}
	cancel()
	<-meddled
	s.Close()
	if _, err := s.Read(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Read after Close returns %v", err)
	}
	if f := r.fetcher; len(f.subs) > 0 {
		t.Errorf("%d subscriptions are left", len(f.subs))
	}
}
