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
)

// A tally counts what reaches the brokers, by kind of request. Each connection begins
// with a request for the versions.
type tally struct{ fetches, metadata, offsets, versions atomic.Int32 }

func (n *tally) String() string {
	return fmt.Sprintf("%d fetches, %d metadata requests, %d looks at offsets, %d connections",
		n.fetches.Load(), n.metadata.Load(), n.offsets.Load(), n.versions.Load())
}

func (r *rig) count() *tally {
	n := &tally{}
	r.cluster.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		switch kmsg.Key(req.Key()) {
		case kmsg.Fetch:
			n.fetches.Add(1)
		case kmsg.Metadata:
			n.metadata.Add(1)
		case kmsg.ListOffsets:
			n.offsets.Add(1)
		case kmsg.ApiVersions:
			n.versions.Add(1)
		}
		return nil, nil, false
	})
	return n
}

var patient = Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond}

// idle reads partitions without records, with five seconds between two looks at where
// they end, as in production, and returns once each has been asked for.
func (r *rig) idle(partitions int) []*reader {
	r.fetcher.mu.Lock()
	r.fetcher.endsEvery = 5 * time.Second
	r.fetcher.mu.Unlock()
	var all []*reader
	for p := range partitions {
		all = append(all, r.read(Spec{Partition: int32(p)}, false))
	}
	for _, rd := range all {
		r.eventually("the position to be confirmed", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
	}
	return all
}

// TestIdleRequests: partitions without records are all asked for in one request, over
// one lane, twice a second.
func TestIdleRequests(t *testing.T) {
	r := newRig(t, 1, 20, patient)
	r.idle(20)
	n := r.count()
	<-time.After(3 * time.Second)
	if n.fetches.Load() > 12 || n.metadata.Load() > 0 || n.offsets.Load() > 0 {
		t.Errorf("20 idle partitions cost %v in 3 s", n)
	}
}

// TestTrickleRequests: a record now and then costs about one request, and one more for
// the partitions beside it.
func TestTrickleRequests(t *testing.T) {
	for name, next := range map[string]func(i int) int32{
		"on one of 20 partitions": func(int) int32 { return 7 },
		"over 20 partitions":      func(i int) int32 { return int32(i * 7 % 20) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, 20, patient)
			readers := r.idle(20)
			n := r.count()
			const records = 20
			got := func() (sum int) {
				for _, rd := range readers {
					seen, _, _ := rd.seen()
					sum += len(seen)
				}
				return sum
			}
			for i := range records {
				<-time.After(200 * time.Millisecond)
				r.produce(next(i), i, 1)
				r.eventually("the record", func() (bool, any) { return got() == i+1, got() })
			}
			t.Log(n)
			if n.fetches.Load() > 4*records || n.metadata.Load() > 3 || n.offsets.Load() > 2 {
				t.Errorf("%d records in 4 s cost %v", records, n)
			}
		})
	}
}

// TestSlowConsumerRequests: a consumer that takes its time for each record has the other
// partitions asked for no more often than their settings say, but for a few short waits
// after each.
func TestSlowConsumerRequests(t *testing.T) {
	r := newRig(t, 1, 20, patient)
	r.idle(19)
	slow := r.fetcher.Subscribe(Spec{Topic: "t", Partition: 19, MaxBytes: 1 << 20})
	t.Cleanup(slow.Close)
	ctx, _ := contextOf(t)
	if _, err := slow.Read(ctx, func(*batch.Record) bool { return true }); err != nil {
		t.Fatal(err)
	}
	n := r.count()
	for i := range 5 {
		r.produce(19, i, 1)
		if _, err := slow.Read(ctx, func(*batch.Record) bool { return true }); err != nil {
			t.Fatal(err)
		}
		<-time.After(600 * time.Millisecond)
	}
	t.Log(n)
	if n.fetches.Load() > 60 {
		t.Errorf("5 records for a consumer that takes 600 ms for each cost %v", n)
	}
}

// TestNewPartitionDuringLongPolls: a partition that is new, or that can be fetched again, is
// asked for soon, however long the lanes of its broker may wait for news of others.
func TestNewPartitionDuringLongPolls(t *testing.T) {
	for _, lanes := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(lanes, " lanes"), func(t *testing.T) {
			r := newRig(t, 1, 8, Settings{Lanes: lanes, MaxBytes: 1 << 20, MaxWait: time.Minute})
			var readers []*reader
			for p := range int32(8) {
				rd := r.read(Spec{Partition: p}, false)
				r.eventually("the position to be confirmed", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
				readers = append(readers, rd)
			}
			for round := range 3 {
				for p, rd := range readers {
					rd.Pause()
					r.produce(int32(p), round, 1)
					rd.Resume()
					r.wants(rd, 0, round+1)
				}
			}
		})
	}
}

// leaderless makes the brokers report that no partition of the topics has a leader, and
// counts these answers.
func (r *rig) leaderless(topics []string) *atomic.Int32 {
	var asked atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		asked.Add(1)
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for i, addr := range r.cluster.ListenAddrs() {
			b := kmsg.NewMetadataResponseBroker()
			b.NodeID = int32(i)
			_, _ = fmt.Sscanf(addr, "127.0.0.1:%d", &b.Port)
			b.Host = "127.0.0.1"
			resp.Brokers = append(resp.Brokers, b)
		}
		for _, name := range req.(*kmsg.MetadataRequest).Topics {
			if !slices.Contains(topics, *name.Topic) {
				continue
			}
			topic, p := kmsg.NewMetadataResponseTopic(), kmsg.NewMetadataResponseTopicPartition()
			topic.Topic = name.Topic
			p.Leader, p.ErrorCode = -1, int16(sarama.ErrLeaderNotAvailable)
			topic.Partitions = append(topic.Partitions, p)
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	return &asked
}

// TestLeaderlessRequests: the leaders of any number of partitions without one are looked
// up together, and another broker is asked now and then instead of each time.
func TestLeaderlessRequests(t *testing.T) {
	r := newRig(t, 3, 1, patient)
	n := r.count()
	var topics []string
	for i := range 300 {
		topics = append(topics, fmt.Sprint("topic-", i))
	}
	asked := r.leaderless(topics)
	for _, topic := range topics {
		s := r.fetcher.Subscribe(Spec{Topic: topic, MaxBytes: 1 << 20})
		t.Cleanup(s.Close)
	}
	<-time.After(6 * time.Second)
	t.Log(asked.Load(), "metadata requests,", n)
	if asked.Load() > 30 || n.versions.Load() > 10 {
		t.Errorf("300 topics without a leader cost %d metadata requests and %d connections in 6 s", asked.Load(), n.versions.Load())
	}
}

// TestManyPositionsAreConfirmedAtOnce: a consumer that starts with many partitions is
// running once its positions are confirmed, so that takes a few requests, however little
// memory there is for the records.
func TestManyPositionsAreConfirmedAtOnce(t *testing.T) {
	const partitions = 400
	r := newRig(t, 1, partitions, patient)
	for p := range int32(partitions) {
		r.produce(p, 0, 2)
	}
	n := r.count()
	var all []*reader
	for p := range int32(partitions) {
		all = append(all, r.read(Spec{Partition: p, Offset: 2}, false))
	}
	for _, rd := range all {
		r.eventually("the position to be confirmed", func() (bool, any) { _, next, _ := rd.seen(); return next == 2, next })
	}
	if n.fetches.Load() > 20 {
		t.Errorf("%d partitions cost %v until their positions were confirmed", partitions, n)
	}
}

// TestStartRequests: partitions that are subscribed to one after the other share the
// look-ups of their leaders.
func TestStartRequests(t *testing.T) {
	r := newRig(t, 1, 300, patient)
	n := r.count()
	var all []*Subscription
	for p := range int32(300) {
		s := r.fetcher.Subscribe(Spec{Topic: "t", Partition: p, MaxBytes: 1 << 20})
		t.Cleanup(s.Close)
		all = append(all, s)
		<-time.After(time.Millisecond)
	}
	for _, s := range all {
		r.eventually("a leader", func() (bool, any) { l := s.Look(); return l.Broker != "", l })
	}
	t.Log(n)
	if n.metadata.Load() > 100 {
		t.Errorf("the start of 300 subscriptions cost %v", n)
	}
}

// TestOutageConnections: consumers that keep asking while no broker can be reached share
// one round of connections a second.
func TestOutageConnections(t *testing.T) {
	r := newRig(t, 1, 1, patient)
	n := r.count()
	r.cluster.ControlKey(int16(kmsg.ApiVersions), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		n.versions.Add(1)
		return nil, errHangUp, true
	})
	f := r.start(patient)
	deadline := time.Now().Add(3 * time.Second)
	for asked := 0; time.Now().Before(deadline); asked++ {
		if err := f.Refresh(t.Context(), []string{"t"}); err == nil {
			t.Fatal("a broker that hangs up was reached")
		}
	}
	if n.versions.Load() > 12 {
		t.Errorf("asking for 3 s cost %d connections", n.versions.Load())
	}
}

// TestRefreshSince: what is known for less time than the caller accepts is not asked
// for again.
func TestRefreshSince(t *testing.T) {
	r := newRig(t, 1, 1, patient)
	n := r.count()
	for range 100 {
		if err := r.fetcher.RefreshSince(t.Context(), []string{"t"}, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if n.metadata.Load() != 1 {
		t.Errorf("100 callers that accept what is known cost %v", n)
	}
	if err := r.fetcher.Refresh(t.Context(), []string{"t"}); err != nil || n.metadata.Load() != 2 {
		t.Errorf("a caller that does not cost %v in all, error %v", n, err)
	}
}
