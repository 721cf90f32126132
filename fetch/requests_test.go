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

// A requestCount counts the requests that reach the brokers. Each connection begins with a request for the
// versions.
type requestCount struct{ fetches, metadata, offsets, versions atomic.Int32 }

func (n *requestCount) String() string {
	return fmt.Sprintf("%d fetches, %d metadata requests, %d looks at offsets, %d connections",
		n.fetches.Load(), n.metadata.Load(), n.offsets.Load(), n.versions.Load())
}

// countRequests starts to count requests.
func (r *rig) countRequests() *requestCount {
	n := &requestCount{}
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

var longPollSettings = Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond}

// readIdle reads partitions without records, and returns once each of them has been requested. Ends are
// looked up every five seconds, as in production.
func (r *rig) readIdle(partitions int) []*reader {
	r.fetcher.mu.Lock()
	r.fetcher.endsInterval = 5 * time.Second
	r.fetcher.mu.Unlock()
	var all []*reader
	for p := range partitions {
		all = append(all, r.startReader(Spec{Partition: int32(p)}, false))
	}
	for _, rd := range all {
		r.eventually("the position to be confirmed", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
	}
	return all
}

// scale returns how many requests a test may have caused that is to take some time, and takes longer
// on a busy machine.
func scale(limit int32, per time.Duration, began time.Time) int32 {
	return int32(float64(limit) * max(1, float64(time.Since(began))/float64(per)))
}

// TestIdlePartitionsShareOneRequest: partitions without records are all in one request, over one lane,
// twice a second.
func TestIdlePartitionsShareOneRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 20, longPollSettings)
	r.readIdle(20)
	n, began := r.countRequests(), time.Now()
	<-time.After(3 * time.Second)
	fetches, lookups := n.fetches.Load(), n.offsets.Load()
	took := time.Since(began)
	if fetches > scale(12, 3*time.Second, began) || n.metadata.Load() > 0 || lookups > int32(took/(2500*time.Millisecond))-1 {
		t.Errorf("20 idle partitions cost %v in %v", n, took)
	}
}

// TestSparseRecordsCostFewRequests: a record now and then costs about one request, and one more for the
// other partitions.
func TestSparseRecordsCostFewRequests(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(i int) int32{
		"on one of 20 partitions": func(int) int32 { return 7 },
		"over 20 partitions":      func(i int) int32 { return int32(i * 7 % 20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, 20, longPollSettings)
			readers := r.readIdle(20)
			n, began := r.countRequests(), time.Now()
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
			for what, c := range map[string]struct{ got, limit int32 }{
				"fetches": {n.fetches.Load(), 4 * records}, "metadata requests": {n.metadata.Load(), 3}, "lookups of offsets": {n.offsets.Load(), 2},
			} {
				if c.got > scale(c.limit, 4*time.Second, began) {
					t.Errorf("%d records in %v cost %d %s", records, time.Since(began), c.got, what)
				}
			}
		})
	}
}

// TestSlowConsumerCausesFewRequests: while a consumer takes long for each record, the other partitions
// are requested no more often than the settings say, except for a few short waits after each record.
func TestSlowConsumerCausesFewRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 20, longPollSettings)
	r.readIdle(19)
	slow := r.fetcher.Subscribe(Spec{Topic: "t", Partition: 19, MaxBytes: 1 << 20})
	t.Cleanup(slow.Close)
	ctx, _ := contextOf(t)
	if _, err := slow.Read(ctx, func(*batch.Record) bool { return true }); err != nil {
		t.Fatal(err)
	}
	n, began := r.countRequests(), time.Now()
	for i := range 5 {
		r.produce(19, i, 1)
		if _, err := slow.Read(ctx, func(*batch.Record) bool { return true }); err != nil {
			t.Fatal(err)
		}
		<-time.After(600 * time.Millisecond)
	}
	t.Log(n)
	if got := n.fetches.Load(); got > scale(60, 3*time.Second, began) {
		t.Errorf("5 records for a consumer that takes 600 ms for each cost %v", n)
	}
}

// TestNewPartitionIsFetchedDuringLongPolls: a partition that is new, or that can be fetched again, is
// requested soon, however long the long polls of its broker may be.
func TestNewPartitionIsFetchedDuringLongPolls(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(lanes, " lanes"), func(t *testing.T) {
			r := newRig(t, 1, 8, Settings{Lanes: lanes, MaxBytes: 1 << 20, MaxWait: time.Minute})
			var readers []*reader
			for p := range int32(8) {
				rd := r.startReader(Spec{Partition: p}, false)
				r.eventually("the position to be confirmed", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
				readers = append(readers, rd)
			}
			for round := range 3 {
				for p, rd := range readers {
					rd.Pause()
					r.produce(int32(p), round, 1)
					rd.Resume()
					r.waitForRecords(rd, 0, round+1)
				}
			}
		})
	}
}

// withoutLeaders makes the brokers report that no partition of the topics has a leader, and counts these
// responses.
func (r *rig) withoutLeaders(topics []string) *atomic.Int32 {
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

// TestLeaderLookupsAreShared: the leaders of any number of partitions without one are looked up
// together, and another broker is asked only now and then.
func TestLeaderLookupsAreShared(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 1, longPollSettings)
	n, began := r.countRequests(), time.Now()
	var topics []string
	for i := range 300 {
		topics = append(topics, fmt.Sprint("topic-", i))
	}
	asked := r.withoutLeaders(topics)
	for _, topic := range topics {
		s := r.fetcher.Subscribe(Spec{Topic: topic, MaxBytes: 1 << 20})
		t.Cleanup(s.Close)
	}
	<-time.After(6 * time.Second)
	t.Log(asked.Load(), "metadata requests,", n)
	lookups, connections := asked.Load(), n.versions.Load()
	if lookups > scale(30, 6*time.Second, began) || connections > scale(10, 6*time.Second, began) {
		t.Errorf("300 topics without a leader cost %d metadata requests and %d connections in %v", lookups, connections, time.Since(began))
	}
}

// TestManyPositionsAreConfirmedTogether: a consumer with many partitions is running once its positions
// are confirmed. That takes few requests, however little memory there is for records.
func TestManyPositionsAreConfirmedTogether(t *testing.T) {
	const partitions = 400
	r := newRig(t, 1, partitions, longPollSettings)
	for p := range int32(partitions) {
		r.produce(p, 0, 2)
	}
	n := r.countRequests()
	var all []*reader
	for p := range int32(partitions) {
		all = append(all, r.startReader(Spec{Partition: p, Offset: 2}, false))
	}
	for _, rd := range all {
		r.eventually("the position to be confirmed", func() (bool, any) { _, next, _ := rd.seen(); return next == 2, next })
	}
	// On a busy machine the partitions are subscribed to over several requests.
	if n.fetches.Load() > partitions/10 {
		t.Errorf("%d partitions cost %v until their positions were confirmed", partitions, n)
	}
}

// TestSubscriptionsShareLeaderLookups: partitions that are subscribed to one after the other share the
// lookups of their leaders.
func TestSubscriptionsShareLeaderLookups(t *testing.T) {
	r := newRig(t, 1, 300, longPollSettings)
	n := r.countRequests()
	var all []*Subscription
	for p := range int32(300) {
		s := r.fetcher.Subscribe(Spec{Topic: "t", Partition: p, MaxBytes: 1 << 20})
		t.Cleanup(s.Close)
		all = append(all, s)
		<-time.After(time.Millisecond)
	}
	for _, s := range all {
		r.eventually("a leader", func() (bool, any) { l := s.Progress(); return l.Broker != "", l })
	}
	t.Log(n)
	if n.metadata.Load() > 100 {
		t.Errorf("the start of 300 subscriptions cost %v", n)
	}
}

// TestOutageLimitsConnections: while no broker can be reached, all callers share one round of
// connections a second.
func TestOutageLimitsConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, longPollSettings)
	n := r.countRequests()
	r.cluster.ControlKey(int16(kmsg.ApiVersions), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		n.versions.Add(1)
		return nil, errHangUp, true
	})
	f, began := r.start(longPollSettings), time.Now()
	deadline := began.Add(3 * time.Second)
	for asked := 0; time.Now().Before(deadline); asked++ {
		if err := f.Refresh(t.Context(), []string{"t"}); err == nil {
			t.Fatal("a broker that closes connections was reached")
		}
	}
	if got := n.versions.Load(); got > scale(12, 3*time.Second, began) {
		t.Errorf("requests for %v cost %d connections", time.Since(began), got)
	}
}

// TestRefreshSinceUsesKnownMetadata: metadata that is newer than the caller requires is not requested
// again.
func TestRefreshSinceUsesKnownMetadata(t *testing.T) {
	r := newRig(t, 1, 1, longPollSettings)
	n := r.countRequests()
	for range 100 {
		if err := r.fetcher.RefreshSince(t.Context(), []string{"t"}, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if n.metadata.Load() != 1 {
		t.Errorf("100 calls that accept known metadata cost %v", n)
	}
	if err := r.fetcher.Refresh(t.Context(), []string{"t"}); err != nil || n.metadata.Load() != 2 {
		t.Errorf("with a call that does not, the calls cost %v, error %v", n, err)
	}
}
