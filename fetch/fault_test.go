package fetch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/metadata"
	"kcagent/fetch/partition"
	"kcagent/leader"
)

// TestTransientErrorsAreRetriedAndHidden: whatever error the broker returns once or twice, every
// record arrives once, and errors that end by themselves are not visible.
func TestTransientErrorsAreRetriedAndHidden(t *testing.T) {
	t.Parallel()
	for _, code := range []sarama.KError{
		sarama.ErrNotLeaderForPartition, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrUnknownTopicOrPartition,
		sarama.ErrKafkaStorageError, sarama.ErrUnknown, sarama.ErrOffsetOutOfRange, sarama.ErrInvalidMessage,
	} {
		t.Run(fmt.Sprint(int16(code)), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2, 2, smallSettings)
			r.produce(0, 0, 100)
			var changed atomic.Int32
			rd := r.startReader(Spec{Changed: func() { changed.Add(1) }}, false)
			other := r.startReader(Spec{Partition: 1}, false)
			r.waitForRecords(rd, 0, 100)
			now := countdown(2)
			r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
				if !now() {
					return nil, nil, false
				}
				return errorResponse(req, code), nil, true
			})
			r.produce(0, 100, 100)
			r.produce(1, 0, 10)
			r.waitForRecords(rd, 0, 200)
			r.waitForRecords(other, 0, 10)
			if n := changed.Load(); n > 0 || len(rd.resets) > 0 {
				t.Errorf("a transient error was visible %d times, with resets %v", n, rd.resets)
			}
		})
	}
}

func TestLastingErrorIsVisibleUntilItEnds(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*kmsg.FetchRequest) (kmsg.Response, error, bool){
		"moved": func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
			return errorResponse(req, sarama.ErrNotLeaderForPartition), nil, true
		},
		"forbidden": func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
			return errorResponse(req, sarama.ErrTopicAuthorizationFailed), nil, true
		},
		"hang up": func(*kmsg.FetchRequest) (kmsg.Response, error, bool) { return nil, errHangUp, true },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, 1, smallSettings)
			var bad atomic.Bool
			bad.Store(true)
			r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
				if bad.Load() {
					return answer(req)
				}
				return nil, nil, false
			})
			changed := make(chan struct{}, 100)
			rd := r.startReader(Spec{Changed: func() { changed <- struct{}{} }}, false)
			<-changed
			if err := rd.LastError(); err == nil || !strings.Contains(err.Error(), "fetch") {
				t.Errorf("the error is %v", err)
			}
			bad.Store(false)
			r.produce(0, 0, 10)
			r.waitForRecords(rd, 0, 10)
			r.waitForRecovery(rd)
			<-changed
		})
	}
}

func TestReadsAcrossLeaderElections(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 3, smallSettings)
	var readers []*reader
	for p := range int32(3) {
		readers = append(readers, r.startReader(Spec{Partition: p}, false))
	}
	for n := range 10 {
		for p := range int32(3) {
			if err := r.cluster.MoveTopicPartition("t", p, (p+int32(n))%3); err != nil {
				t.Fatal(err)
			}
		}
		for p, rd := range readers {
			r.produce(int32(p), 50*n, 50)
			r.waitForRecords(rd, 0, 50*n+50)
		}
	}
}

// TestBrokersJoinAndLeave: a new broker becomes the leader, and a leader is removed.
func TestBrokersJoinAndLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, smallSettings)
	rd := r.startReader(Spec{}, false)
	r.produce(0, 0, 10)
	r.waitForRecords(rd, 0, 10)
	for n := range 3 {
		id, _, err := r.cluster.AddNode(int32(10+n), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.cluster.MoveTopicPartition("t", 0, id); err != nil {
			t.Fatal(err)
		}
		r.produce(0, 10+20*n, 10)
		r.waitForRecords(rd, 0, 20+20*n)
		if err := r.cluster.MoveTopicPartition("t", 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := r.cluster.RemoveNode(id); err != nil {
			t.Fatal(err)
		}
		r.produce(0, 20+20*n, 10)
		r.waitForRecords(rd, 0, 30+20*n)
	}
}

func TestOutOfRangePolicies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		offset int64
		policy partition.Policy
		from   int // the first record that comes
	}{{500, partition.Earliest, 0}, {500, partition.Latest, 10}, {3, partition.Earliest, 3}} {
		t.Run(fmt.Sprint(tt.offset, tt.policy), func(t *testing.T) {
			r := newRig(t, 1, 1, smallSettings)
			r.produce(0, 0, 10)
			rd := r.startReader(Spec{Offset: tt.offset, OnOutOfRange: tt.policy}, false)
			r.eventually("a position", func() (bool, any) { _, next, _ := rd.seen(); return next >= 0, next })
			r.produce(0, 10, 5)
			r.waitForRecords(rd, tt.from, 15)
			resets := 1
			if tt.offset <= 10 {
				resets = 0
			}
			if len(rd.resets) != resets {
				t.Errorf("resets: %v", rd.resets)
			}
		})
	}
	t.Run("fail", func(t *testing.T) {
		r := newRig(t, 1, 1, smallSettings)
		r.produce(0, 0, 10)
		rd := r.startReader(Spec{Offset: 500}, false)
		r.waitForError(rd, "offset 500 of t/0 is out of range, the partition holds [0, 10)")
		<-rd.done
		_, _, err := rd.seen()
		if !errors.As(err, new(*partition.OutOfRangeError)) || !errors.Is(err, sarama.ErrOffsetOutOfRange) {
			t.Errorf("Read returns %v", err)
		}
		rd.Retry()
		r.waitForError(rd, "out of range") // until the leader has answered
		if _, err := rd.Read(t.Context(), nil); !errors.As(err, new(*partition.OutOfRangeError)) {
			t.Errorf("after Retry, Read returns %v", err)
		}
		rd.Rewind(5, leader.Unknown) // as if the group's offset had been reset
		rd.Retry()
		var got []int64
		for len(got) < 5 {
			if _, err := rd.Read(t.Context(), func(rec *batch.Record) bool { got = append(got, rec.Offset); return true }); err != nil {
				t.Fatal(err)
			}
		}
		if want := []int64{5, 6, 7, 8, 9}; !slices.Equal(got, want) {
			t.Errorf("got offsets %v, want %v", got, want)
		}
		r.waitForRecovery(rd)
	})
}

// A cutter cuts connections of the broker in the middle of an answer.
type cutter struct {
	net.Listener
	after atomic.Int64 // bytes that each connection may still send; less than 0: any number
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, cutter: c}, nil
}

type cutConn struct {
	net.Conn
	cutter *cutter
	sent   int64
}

func (c *cutConn) Write(p []byte) (int, error) {
	limit := c.cutter.after.Load()
	if limit >= 0 && c.sent+int64(len(p)) > limit {
		n, _ := c.Conn.Write(p[:max(0, limit-c.sent)])
		_ = c.Conn.Close()
		return n, net.ErrClosed
	}
	c.sent += int64(len(p))
	return c.Conn.Write(p)
}

func TestConnectionBreaksDuringResponse(t *testing.T) {
	t.Parallel()
	cut := &cutter{}
	cut.after.Store(-1)
	r := newRig(t, 1, 1, smallSettings, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		cut.Listener = l
		return cut, err
	}))
	r.producer = r.newClient(kgo.ProducerBatchCompression(kgo.NoCompression()))
	const batch, total = 5000, 50_000 // a batch is about 60 kB
	for n := 0; n < total; n += batch {
		r.produce(0, n, batch)
	}
	rd := r.startReader(Spec{}, true)
	r.eventually("the first record", func() (bool, any) { got, _, _ := rd.seen(); return len(got) > 0, len(got) })
	cut.after.Store(30_000)
	close(rd.gate)
	r.waitForError(rd, "fetch: broker")
	cut.after.Store(-1)
	r.waitForRecords(rd, 0, total)
	r.waitForRecovery(rd)
}

// TestMalformedRecordIsFetchedAgainAfterBackoff: the consumer's goroutine finds the malformed record,
// after the lanes have found nothing to do. None of them may sleep through the end of the backoff.
func TestMalformedRecordIsFetchedAgainAfterBackoff(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, smallSettings)
	r.fetcher.mu.Lock()
	r.fetcher.endsInterval = time.Hour
	r.fetcher.mu.Unlock()
	malformed := batchOf(0, "v0", "v1")
	binary.BigEndian.PutUint32(malformed[23:], 2) // the last offset, of a record that is missing
	binary.BigEndian.PutUint32(malformed[57:], 3)
	binary.BigEndian.PutUint32(malformed[17:], crc32.Checksum(malformed[21:], crc32.MakeTable(crc32.Castagnoli)))
	var fetches atomic.Int32
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		fetches.Add(1)
		resp := errorResponse(req, sarama.ErrNoError).(*kmsg.FetchResponse)
		p := &resp.Topics[0].Partitions[0]
		p.HighWatermark, p.LastStableOffset, p.RecordBatches = 3, 3, malformed
		return resp, nil, true
	})
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 64 << 10})
	defer s.Close()
	ctx, cancel := contextOf(t)
	var found time.Time
	for s.LastError() == nil {
		time.Sleep(2 * unreadAfter) // so that nothing is fetched ahead
		if _, err := s.Read(ctx, func(*batch.Record) bool { time.Sleep(unreadAfter / 2); return true }); err != nil {
			t.Fatal(err)
		}
		found = time.Now()
	}
	before := fetches.Load()
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		_ = s.Wait(ctx)
	}()
	defer func() { cancel(); <-waiting }()
	r.eventually("another fetch", func() (bool, any) { n := fetches.Load(); return n > before, n })
	if took := time.Since(found); took > 30*time.Second {
		t.Errorf("it was fetched again after %v", took)
	}
}

func TestSlowBrokerDelaysNoOther(t *testing.T) {
	r := newRig(t, 2, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 10 * time.Millisecond})
	for p := range int32(2) {
		if err := r.cluster.MoveTopicPartition("t", p, p); err != nil {
			t.Fatal(err)
		}
	}
	slow := true
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		if slow && len(req.Topics) > 0 && req.Topics[0].Partitions[0].Partition == 0 {
			r.cluster.SleepControl(func() { <-time.After(300 * time.Millisecond) })
		}
		return nil, nil, false
	})
	a, b := r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)
	r.produce(0, 0, 100)
	r.produce(1, 0, 100)
	r.waitForRecords(b, 0, 100)
	r.waitForRecords(a, 0, 100)
	if err := a.LastError(); err != nil {
		t.Errorf("a slow response is reported as %v", err)
	}
}

func TestUnusableTopicIsNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, smallSettings)
	if err := r.fetcher.Refresh(t.Context(), []string{"t"}); err != nil {
		t.Fatal(err)
	}
	if ids, err := r.fetcher.Partitions("t"); err != nil || !slices.Equal(ids, []int32{0}) {
		t.Errorf("partitions %v, %v", ids, err)
	}
	err := r.fetcher.Refresh(t.Context(), []string{"t", "typo"})
	var topic *metadata.TopicError
	if !errors.As(err, &topic) || topic.Topic != "typo" || !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("the error of an unknown topic is %v", err)
	}
	if _, addr, err := r.fetcher.Coordinator(t.Context(), "g"); err != nil || addr != r.cluster.ListenAddrs()[0] {
		t.Errorf("the coordinator is %s, %v", addr, err)
	}
	s := r.fetcher.Subscribe(Spec{Topic: "typo"})
	defer s.Close()
	r.eventually("the error", func() (bool, any) {
		err := s.LastError()
		return errors.Is(err, sarama.ErrUnknownTopicOrPartition), err
	})
}

func TestUnreachableClusterIsReported(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	r := newRig(t, 1, 1, smallSettings)
	f := New(Options{Name: "nobody", Brokers: []string{addr}, Config: r.fetcher.options.Config, Settings: smallSettings})
	ended := make(chan error, 1)
	ctx, cancel := contextOf(t)
	go func() { ended <- f.Run(ctx) }()
	for range 3 {
		if err := f.Refresh(t.Context(), []string{"t"}); err == nil || !strings.Contains(err.Error(), "reach brokers "+addr) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("the error is %v", err)
		}
	}
	s := f.Subscribe(Spec{Topic: "t"})
	r.eventually("the error", func() (bool, any) { err := s.LastError(); return err != nil, err })
	cancel()
	<-ended
	if _, err := s.Read(t.Context(), nil); !errors.Is(err, metadata.ErrEnded) {
		t.Errorf("Read after the end returns %v", err)
	}
	if err := f.Refresh(t.Context(), []string{"t"}); !errors.Is(err, metadata.ErrEnded) {
		t.Errorf("Refresh after the end returns %v", err)
	}
}

// TestBatchLargerThanRequestArrives: a batch that is larger than requested arrives. One that is
// larger than limits.max_batch is an error of its consumer alone.
func TestBatchLargerThanRequestArrives(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 3, Settings{Lanes: 2, MaxBytes: 64 << 10, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetMaxBatch(512 << 10)
	large := r.newClient(kgo.ProducerBatchMaxBytes(16<<20), kgo.BrokerMaxWriteBytes(100<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	pad := func(n int) []byte { return append([]byte("v0"), make([]byte, n)...) }
	r.send(large, &kgo.Record{Partition: 0, Value: pad(300 << 10)})
	r.send(large, &kgo.Record{Partition: 1, Value: pad(3 << 20)})
	huge, over, fine := r.startReader(Spec{MaxBytes: 4 << 10}, false), r.startReader(Spec{Partition: 1, MaxBytes: 4 << 10}, false), r.startReader(Spec{Partition: 2}, false)
	r.eventually("the huge record", func() (bool, any) { got, _, _ := huge.seen(); return len(got) == 1, huge.LastError() })
	r.waitForError(over, "read t/1 at offset 0: record batch has 31")
	r.waitForError(over, " bytes, more than limits.max_batch (524288): raise limits.max_batch; to skip it, stop the consumer and reset the group's offset to 1")
	for n := range 3 {
		r.produce(2, 100*n, 100)
		r.waitForRecords(fine, 0, 100*n+100)
	}
	if err := errors.Join(huge.LastError(), fine.LastError()); err != nil {
		t.Errorf("other consumers fail with %v", err)
	}
}
