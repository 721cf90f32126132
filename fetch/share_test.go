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

// TestTransactions runs committed, aborted and open transactions of two
// producers and plain records, all interleaved.
func TestTransactions(t *testing.T) {
	r := newRig(t, 1, 1, small)
	begin := func(id string) *kgo.Client {
		c := r.client(kgo.TransactionalID(id))
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

	committed, all := r.read(Spec{ReadCommitted: true}, false), r.read(Spec{}, false)
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
	if committed.End() >= committed.HighWaterMark() || all.End() != all.HighWaterMark() {
		t.Errorf("with an open transaction the ends are %d and %d, the high-water mark %d", committed.End(), all.End(), all.HighWaterMark())
	}
	end(a, kgo.TryCommit)
	wants(committed, "b1 p1 b2 a3 p2")
	for _, rd := range []*reader{committed, all} {
		r.eventually("a position behind the marks", func() (bool, any) {
			_, next, _ := rd.seen()
			return next == rd.HighWaterMark(), next
		})
	}
}

// TestStuckConsumersDelayNobody: those who do not read are dropped from the
// requests, and what was fetched for them is given up, so that little memory is
// enough for those who do. Then they get everything.
func TestStuckConsumersDelayNobody(t *testing.T) {
	set := Settings{Lanes: 1, MaxBytes: 256 << 10, MaxWait: 20 * time.Millisecond}
	r := newRig(t, 1, 8, set)
	large := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
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
			stuck = append(stuck, r.read(Spec{Partition: p}, true))
		}
	}
	for _, rd := range stuck {
		r.eventually("all to be stuck", func() (bool, any) { got, _, _ := rd.seen(); return len(got) > 0, len(got) })
	}
	free := r.read(Spec{Partition: 7}, false)
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

// TestMemoryIsBounded: two hundred consumers on large records hold no more than
// the settings say, but for one batch.
func TestMemoryIsBounded(t *testing.T) {
	set := Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}
	r := newRig(t, 1, 20, set)
	large := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
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
	r.eventually("all to have read everything", func() (bool, any) { return done.Load() == 200, done.Load() })
	f := r.fetcher
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := int64(set.Lanes*set.MaxBytes) + 2*256<<10
	if f.budget.most > limit || f.budget.most < limit/8 {
		t.Errorf("%d bytes were held or asked for, and %d are the limit", f.budget.most, limit)
	}
	if f.budget.kept != 0 {
		t.Errorf("%d bytes are still counted", f.budget.kept)
	}
}

// TestQuotas: an answer that a broker has emptied because of a quota is no
// trouble, and the broker is left alone for as long as it says.
func TestQuotas(t *testing.T) {
	r := newRig(t, 1, 1, small)
	var asked atomic.Int32
	r.fetches(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
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
	rd := r.read(Spec{Changed: func() { changed.Add(1) }}, false)
	r.wants(rd, 0, 10)
	if took := time.Since(began); took < 1200*time.Millisecond || changed.Load() > 0 {
		t.Errorf("it took %s, and an error was shown %d times", took, changed.Load())
	}
}

// TestPausedPartitionsFollowTheirLeader: no fetch tells that it has gone.
func TestPausedPartitionsFollowTheirLeader(t *testing.T) {
	r := newRig(t, 2, 1, small)
	if err := r.cluster.MoveTopicPartition("t", 0, 1); err != nil {
		t.Fatal(err)
	}
	rd := r.read(Spec{Paused: true}, false)
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
	r.wants(rd, 0, 20)
}

// TestNonsenseAboutOffsets: it is asked again, slowly.
func TestNonsenseAboutOffsets(t *testing.T) {
	r := newRig(t, 1, 3, small)
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
		readers = append(readers, r.read(Spec{Partition: p, Offset: sarama.OffsetOldest}, false))
	}
	for _, rd := range readers {
		r.shows(rd, "fetch t/")
	}
	if n := asked.Load(); n > 100 {
		t.Errorf("it was asked for %d times in a second", n)
	}
	bad.Store(false)
	for p, rd := range readers {
		r.produce(int32(p), 0, 5)
		r.wants(rd, 0, 5)
		r.heals(rd)
	}
}

// TestIsolationLevelsShareALane: they cannot share a request.
func TestIsolationLevelsShareALane(t *testing.T) {
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 64 << 10, MaxWait: 50 * time.Millisecond})
	r.produce(0, 0, 50_000)
	hot := r.read(Spec{MaxBytes: 1 << 10}, false)
	quiet := r.read(Spec{Partition: 1, ReadCommitted: true}, false)
	for i := range 5 {
		r.produce(1, i, 1)
		r.wants(quiet, 0, i+1)
	}
	r.wants(hot, 0, 50_000)
}

// TestSlowReadersOfOnePartitionGetTheirTurn: what they know of its end is old.
func TestSlowReadersOfOnePartitionGetTheirTurn(t *testing.T) {
	r := newRig(t, 1, 1, Settings{Lanes: 1, MaxBytes: 64 << 10, MaxWait: 30 * time.Millisecond})
	r.produce(0, 0, 1)
	slow, fast := r.read(Spec{}, true), r.read(Spec{}, false)
	r.wants(fast, 0, 1)
	r.wants(slow, 0, 1)
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
	<-time.After(2 * leftLying) // behind, and not expected back soon
	close(slow.gate)
	began := time.Now()
	r.eventually("the slow one to go on", func() (bool, any) { got, _, _ := slow.seen(); return len(got) > 1, len(got) })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it came to its turn after %s", took)
	}
	stop()
	n := <-stopped
	r.wants(slow, 0, n)
	r.wants(fast, 0, n)
}

// TestNothingIsSkippedOrRepeated pauses, rewinds and resumes at random while
// records come, and closes in the end.
func TestNothingIsSkippedOrRepeated(t *testing.T) {
	r := newRig(t, 2, 1, small)
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
	go func() {
		defer close(meddled)
		for i := 0; ctx.Err() == nil; i++ {
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
				t.Fatalf("record %d=%s came where %d should", rec.Offset, rec.Value, got+size)
			}
			size++
			return size < 37
		})
		if err != nil {
			t.Fatal(err)
		}
		if n%5 == 4 { // could not be kept
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
