package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/leader"
)

func TestReadsEveryCompression(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, 1, smallSettings)
			r.producer = r.newClient(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(time.Millisecond))
			r.produce(0, 0, 5000)
			rd := r.startReader(Spec{}, false)
			r.waitForRecords(rd, 0, 5000)
			r.produce(0, 5000, 10) // and what comes later
			r.waitForRecords(rd, 0, 5010)
		})
	}
}

func TestRecordFieldsAreKept(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	at := time.UnixMilli(1_700_000_000_123)
	sent := []*kgo.Record{
		{Key: []byte("k"), Value: []byte("v"), Timestamp: at},
		{Value: nil, Key: nil, Timestamp: at.Add(time.Second)},
		{Value: []byte{}, Key: []byte{}},
		{Value: []byte("h"), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "a", Value: []byte{}}}},
	}
	r.send(r.producer, sent...)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	defer s.Close()
	var n int
	for n < len(sent) {
		if _, err := s.Read(t.Context(), func(rec *batch.Record) bool {
			want := sent[n]
			if same(rec.Key, want.Key) && same(rec.Value, want.Value) && rec.Offset == int64(n) &&
				rec.Time.UnixMilli() == want.Timestamp.UnixMilli() && len(rec.Headers) == len(want.Headers) {
				for i, h := range rec.Headers {
					if string(h.Key) != want.Headers[i].Key || !same(h.Value, want.Headers[i].Value) {
						t.Errorf("record %d has header %d %q=%q", n, i, h.Key, h.Value)
					}
				}
			} else {
				t.Errorf("record %d is %+v, want %+v", n, rec, want)
			}
			n++
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// same compares byte slices, and tells null from empty.
func same(a, b []byte) bool { return string(a) == string(b) && (a == nil) == (b == nil) }

// TestConsumersAtSamePositionShareRequests: each consumer gets all records at its own pace, and the
// broker sends them once.
func TestConsumersAtSamePositionShareRequests(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	var readers []*reader
	for range 5 {
		readers = append(readers, r.startReader(Spec{}, false))
	}
	for _, rd := range readers {
		r.eventually("the end", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
	}
	var mu sync.Mutex
	var asked []int64
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range req.Topics {
			for _, p := range topic.Partitions {
				asked = append(asked, p.FetchOffset)
			}
		}
		return nil, nil, false
	})
	r.produce(0, 0, 1000)
	for _, rd := range readers {
		r.waitForRecords(rd, 0, 1000)
	}
	mu.Lock()
	defer mu.Unlock()
	// Consumers that were about to wait may be in a second request.
	if len(asked) > 6 {
		t.Errorf("the records were requested several times: %v", asked)
	}
}

func TestConsumersAtDifferentPositionsTakeTurns(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, Settings{Lanes: 1, MaxBytes: 64 << 10, MaxWait: 50 * time.Millisecond})
	r.produce(0, 0, 20_000)
	a, b, c := r.startReader(Spec{MaxBytes: 4 << 10}, false), r.startReader(Spec{Offset: 5000, MaxBytes: 4 << 10}, false), r.startReader(Spec{Offset: 19_000}, false)
	r.waitForRecords(c, 19_000, 20_000)
	r.waitForRecords(a, 0, 20_000)
	r.waitForRecords(b, 5000, 20_000)
}

func TestBusyPartitionDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 3, Settings{Lanes: 1, MaxBytes: 64 << 10, MaxWait: 50 * time.Millisecond})
	r.produce(0, 0, 100_000)
	hot := r.startReader(Spec{MaxBytes: 1 << 20}, false)
	r.eventually("records of the busy partition", func() (bool, any) { got, _, _ := hot.seen(); return len(got) > 0, len(got) })
	slow := []*reader{r.startReader(Spec{Partition: 1}, false), r.startReader(Spec{Partition: 2}, false)}
	for i := range 5 {
		for p, rd := range slow {
			r.produce(int32(p+1), i, 1)
			r.waitForRecords(rd, 0, i+1)
		}
	}
	r.waitForRecords(hot, 0, 100_000)
}

func TestPausedPartitionIsNotFetched(t *testing.T) {
	r := newRig(t, 1, 2, smallSettings)
	r.produce(0, 0, 10)
	rd, other := r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)
	r.waitForRecords(rd, 0, 10)
	rd.Pause()
	late := r.startReader(Spec{Paused: true}, false)
	r.eventually("a position without a record", func() (bool, any) { _, next, _ := late.seen(); return next == 0, next })
	var asked atomic.Int32
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		for _, topic := range req.Topics {
			for _, p := range topic.Partitions {
				if p.Partition == 0 {
					asked.Add(1)
				}
			}
		}
		return nil, nil, false
	})
	r.produce(0, 10, 10)
	r.produce(1, 0, 10)
	r.waitForRecords(other, 0, 10) // until then, a request would have had partition 0
	r.eventually("the current end", func() (bool, any) { n := rd.HighWaterMark(); return n == 20 && late.Outlook(time.Now()).End == 20, n })
	r.waitForRecords(rd, 0, 10)
	if got, _, _ := late.seen(); asked.Load() > 1 || len(got) > 0 { // one may have been in flight
		t.Errorf("%d requests had a paused partition, and %d records arrived", asked.Load(), len(got))
	}
	rd.Resume()
	late.Resume()
	r.waitForRecords(rd, 0, 20)
	r.waitForRecords(late, 0, 20)
}

func TestCloseEndsRead(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	rd := r.startReader(Spec{}, false)
	r.eventually("the end", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
	rd.Close()
	<-rd.done
	if _, _, err := rd.seen(); !errors.Is(err, ErrClosed) {
		t.Errorf("a blocked Read ends with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := r.fetcher.Subscribe(Spec{Topic: "t"})
	defer s.Close()
	s.Pause()
	if _, err := s.Read(ctx, func(*batch.Record) bool { return true }); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := s.Read(ctx, func(*batch.Record) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("Read with a canceled context returns %v", err)
	}
}

// TestRewindRepeatsRecords: records that were not stored are delivered again.
func TestRewindRepeatsRecords(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 50)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20})
	defer s.Close()
	var got []string
	for len(got) < 60 {
		if _, err := s.Read(t.Context(), func(rec *batch.Record) bool {
			got = append(got, fmt.Sprintf("%d=%s", rec.Offset, rec.Value))
			return len(got) != 10
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) == 10 {
			s.Rewind(0, leader.Unknown)
		}
	}
	for i, g := range got {
		n := i
		if i >= 10 {
			n -= 10
		}
		if g != fmt.Sprintf("%d=v%d", n, n) {
			t.Fatalf("record %d is %s", i, g)
		}
	}
}

// TestRewoundConsumerHoldsNoMemory: a consumer whose sink fails takes part in no request, and no
// part is queued for it, before it waits again.
func TestRewoundConsumerHoldsNoMemory(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 1000)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 10})
	defer s.Close()
	read := func(n int) (next int64) {
		t.Helper()
		next, err := s.Read(t.Context(), func(*batch.Record) bool { n--; return n > 0 })
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	if next := read(1); next != 0 { // the position is good
		t.Fatalf("next is %d", next)
	}
	read(3)
	s.Rewind(0, leader.Unknown)
	time.Sleep(50 * time.Millisecond) // a response in flight is discarded
	f := r.fetcher
	for range 20 {
		f.mu.Lock()
		if f.budget.kept != 0 || len(s.cursor.Queue) > 0 || s.request.inFlight {
			t.Errorf("%d bytes are kept, %d parts queued, in flight: %v", f.budget.kept, len(s.cursor.Queue), s.request.inFlight)
		}
		f.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	if next := read(3); next != 3 {
		t.Errorf("after the wait it reads up to %d, want 3", next)
	}
}

// TestResetPositionIsReportedByTake: the first Take after a position was out of range reports that
// the policy chose the new one.
func TestResetPositionIsReportedByTake(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 5)
	for offset, want := range map[int64]bool{99: true, 3: false, sarama.OffsetNewest: false} {
		s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 10, Offset: offset, OnOutOfRange: partition.Latest})
		next, err := s.Read(t.Context(), func(*batch.Record) bool { return true })
		if err != nil || s.WasReset() != want || want && next != 5 {
			t.Errorf("offset %d: next is %d, jumped: %v, error: %v", offset, next, s.WasReset(), err)
		}
		s.Close()
	}
}

func TestStartOffsetIsLookedUp(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	for i := range 10 {
		r.send(r.producer, &kgo.Record{Value: fmt.Appendf(nil, "v%d", i), Timestamp: time.UnixMilli(int64(1000 * i))})
	}
	for _, tt := range []struct {
		spec Spec
		want int
	}{
		{Spec{Offset: sarama.OffsetOldest}, 0},
		{Spec{Offset: sarama.OffsetNewest}, 10},
		{Spec{Offset: sarama.OffsetOldest, Time: time.UnixMilli(4000)}, 4},
		{Spec{Offset: sarama.OffsetOldest, Time: time.UnixMilli(4500)}, 5},
		{Spec{Offset: sarama.OffsetOldest, Time: time.UnixMilli(99_000)}, 10},
		{Spec{Offset: sarama.OffsetNewest, Paused: true}, 10},
	} {
		rd := r.startReader(tt.spec, false)
		r.eventually("a start", func() (bool, any) { _, next, _ := rd.seen(); return next >= 0, next })
		if tt.spec.Paused {
			rd.Resume()
		}
		defer func() { r.waitForRecords(rd, tt.want, 11) }()
	}
	r.produce(0, 10, 1)
}

func TestSettingsChangeWhileRunning(t *testing.T) {
	r := newRig(t, 1, 4, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 10 * time.Millisecond})
	var readers []*reader
	for p := range int32(4) {
		readers = append(readers, r.startReader(Spec{Partition: p}, false))
	}
	lanes := func() int {
		r.fetcher.mu.Lock()
		defer r.fetcher.mu.Unlock()
		n := 0
		for _, b := range r.fetcher.brokers {
			n += len(b.lanes)
		}
		return n
	}
	n := 0
	for _, want := range []int{1, 4, 2} {
		r.fetcher.Update(Settings{Lanes: want, MaxBytes: 1 << 20, MaxWait: time.Duration(10*want) * time.Millisecond})
		r.fetcher.Reconnect()
		r.eventually(fmt.Sprint(want, " lanes"), func() (bool, any) { return lanes() == want, lanes() })
		for p, rd := range readers {
			r.produce(int32(p), n, 100)
			r.waitForRecords(rd, 0, n+100)
		}
		n += 100
	}
}

// TestPutBackRecordIsNext: a record that is put back is the first one of the next Take, wherever it
// is in its batch.
func TestPutBackRecordIsNext(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 5)
	r.produce(0, 5, 5)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 64 << 10})
	defer s.Close()
	var got []string
	var at int64
	for refused := int64(-1); at < 10; {
		next, err := s.Read(t.Context(), func(rec *batch.Record) bool {
			if rec.Offset != refused {
				refused = rec.Offset
				rec.PutBack()
				return false
			}
			got = append(got, string(rec.Value))
			return true
		})
		if err != nil || next != int64(len(got)) {
			t.Fatalf("next is %d after %d records, error %v", next, len(got), err)
		}
		at = next
	}
	if len(got) != 10 || got[0] != "v0" || got[9] != "v9" {
		t.Errorf("got %q", got)
	}
}
