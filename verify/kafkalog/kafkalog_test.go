package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kcagent/agent/kafka"
	"kcagent/config"
)

func TestMain(m *testing.M) {
	kafka.SetUpSarama(nil)
	goleak.VerifyTestMain(m)
}

// A scene is an embedded broker with the topic t of two partitions.
type scene struct {
	*testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
}

func newScene(t *testing.T) *scene {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s := &scene{T: t, cluster: cluster}
	s.client = s.newClient()
	return s
}

func (s *scene) newClient(opts ...kgo.Opt) *kgo.Client {
	s.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	return client
}

// produce appends records with the values to partition 0 of a topic.
func (s *scene) produce(client *kgo.Client, topic string, values ...string) {
	s.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Key: []byte("k" + v), Value: []byte(v)}
		if err := client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			s.Fatal(err)
		}
	}
}

// transaction appends records, and the marker of their transaction.
func (s *scene) transaction(client *kgo.Client, commit bool, values ...string) {
	s.Helper()
	if err := client.BeginTransaction(); err != nil {
		s.Fatal(err)
	}
	s.produce(client, "t", values...)
	if err := client.EndTransaction(context.Background(), kgo.TransactionEndTry(commit)); err != nil {
		s.Fatal(err)
	}
}

// open returns the log as a consumer with further lines reads it.
func (s *scene) open(lines ...string) *Log {
	s.Helper()
	text := fmt.Sprintf("consumers:\n- {name: c, brokers: [%q], topics: [t], sink: {stdout: {format: json}}%s}\n", s.cluster.ListenAddrs()[0], strings.Join(append([]string{""}, lines...), ", "))
	conf, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		s.Fatal(problems)
	}
	l := Open(&conf.Consumers[0])
	s.Cleanup(l.Close)
	return l
}

// want requires what the log says about the offsets of a topic.
func (s *scene) want(l *Log, topic string, from, to int64, records []int64, first, next int64) {
	s.Helper()
	var found []int64
	gotFirst, gotNext, err := l.Read(s.Context(), topic, 0, from, to, func(offset int64) { found = append(found, offset) })
	if err != nil || !slices.Equal(found, records) || gotFirst != first || gotNext != next {
		s.Errorf("from %d to %d: records %v, first %d, next %d, error %v; want %v, %d, %d", from, to, found, gotFirst, gotNext, err, records, first, next)
	}
}

// TestRecordsBetweenOffsetsAreFound, in any order of the calls, and only those between.
func TestRecordsBetweenOffsetsAreFound(t *testing.T) {
	s := newScene(t)
	for i := range 30 {
		s.produce(s.client, "t", fmt.Sprint(i))
	}
	l := s.open()
	s.want(l, "t", 3, 5, []int64{3, 4, 5}, 3, 6)
	s.want(l, "t", 6, 6, []int64{6}, 6, 7)
	s.want(l, "t", 20, 21, []int64{20, 21}, 20, 22)
	s.want(l, "t", 0, 1, []int64{0, 1}, 0, 2)
	s.want(l, "t", 28, 29, []int64{28, 29}, 28, 30)
}

// TestTransactionsAreReadByTheIsolationLevel: markers are not records, and records of aborted transactions
// count for read_uncommitted only.
func TestTransactionsAreReadByTheIsolationLevel(t *testing.T) {
	s := newScene(t)
	producer := s.newClient(kgo.TransactionalID("tx"))
	s.transaction(producer, true, "a", "b") // 0, 1, and the marker 2
	s.transaction(producer, false, "c")     // 3, and the marker 4
	s.transaction(producer, true, "d")      // 5, and the marker 6
	committed, all := s.open(), s.open("isolation: read_uncommitted")
	s.want(committed, "t", 2, 4, nil, 2, 5)
	s.want(committed, "t", 4, 4, nil, 4, 5)
	s.want(committed, "t", 0, 6, []int64{0, 1, 5}, 0, 7)
	s.want(all, "t", 2, 4, []int64{3}, 2, 5)
}

// TestOpenTransactionHidesTheEnd: read_committed says nothing about the offsets of an open transaction.
func TestOpenTransactionHidesTheEnd(t *testing.T) {
	s := newScene(t)
	s.produce(s.client, "t", "a")
	producer := s.newClient(kgo.TransactionalID("tx"))
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	s.produce(producer, "t", "b", "c")
	s.want(s.open(), "t", 0, 2, []int64{0}, 0, 1)
	if err := producer.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

func TestCompactedRecordsAreNotFound(t *testing.T) {
	s := newScene(t)
	if err := s.cluster.CreateTopic("compacted", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	s.produce(s.client, "compacted", "a", "b", "b", "b", "c")
	s.cluster.Compact()
	l := s.open()
	s.want(l, "compacted", 1, 2, nil, 1, 3)
	s.want(l, "compacted", 0, 4, []int64{0, 3, 4}, 0, 5)
}

// TestRemovedRecordsAreUnknown: the log says nothing about what retention has removed, or what is beyond
// its end.
func TestRemovedRecordsAreUnknown(t *testing.T) {
	s := newScene(t)
	for i := range 10 {
		s.produce(s.client, "t", fmt.Sprint(i))
	}
	l := s.open()
	s.want(l, "t", 2, 3, []int64{2, 3}, 2, 4)
	if err := s.cluster.DeleteRecords("t", 0, 6); err != nil {
		t.Fatal(err)
	}
	s.want(l, "t", 2, 4, nil, 6, 6)
	s.want(l, "t", 4, 7, []int64{6, 7}, 6, 8)
	s.want(l, "t", 5, 5, nil, 6, 6)
	s.want(l, "t", 8, 11, []int64{8, 9}, 8, 10)
	s.want(l, "t", 10, 11, nil, 10, 10)
	s.want(l, "t", 15, 16, nil, 15, 15)
}

// TestRecordsThatOnErrorLeavesOutAreNotFound: only with on_error skip or dead_letter.
func TestRecordsThatOnErrorLeavesOutAreNotFound(t *testing.T) {
	s := newScene(t)
	s.produce(s.client, "t", "1", "x", "2")
	s.want(s.open("decode: {value: json}", "on_error: skip"), "t", 0, 2, []int64{0, 2}, 0, 3)
	s.want(s.open("decode: {value: json}"), "t", 0, 2, []int64{0, 1, 2}, 0, 3)
	s.want(s.open(), "t", 0, 2, []int64{0, 1, 2}, 0, 3)
}

// TestTopicHasItsIDs: those of the topic that exists now.
func TestTopicHasItsIDs(t *testing.T) {
	s := newScene(t)
	cluster, former, exists, err := s.open().Topic(t.Context(), "t")
	if err != nil || !exists || cluster == "" || former == "" {
		t.Fatalf("%q, %q, %v, %v", cluster, former, exists, err)
	}
	if _, _, exists, err := s.open().Topic(t.Context(), "none"); exists || err != nil {
		t.Errorf("no topic: %v, %v", exists, err)
	}
	if err := errors.Join(s.cluster.DeleteTopic("t"), s.cluster.CreateTopic("t", 2, nil)); err != nil {
		t.Fatal(err)
	}
	if again, id, exists, err := s.open().Topic(t.Context(), "t"); again != cluster || id == former || !exists || err != nil {
		t.Errorf("%q, %q, %v, %v after %q", again, id, exists, err, former)
	}
}

// TestTopicIsLookedUpInEachCall: the first call after a topic was recreated or deleted says so, although
// the brokers may disagree about it for a second.
func TestTopicIsLookedUpInEachCall(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	l := s.open()
	_, former, _, err := l.Topic(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.cluster.DeleteTopic("t"), s.cluster.CreateTopic("t", 2, nil)); err != nil {
		t.Fatal(err)
	}
	if _, id, exists, err := l.Topic(t.Context(), "t"); id == former || id == "" || !exists || err != nil {
		t.Errorf("recreated: %q, %v, %v after %q", id, exists, err, former)
	}
	if err := s.cluster.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if _, _, exists, err := l.Topic(t.Context(), "t"); exists || err != nil {
		t.Errorf("deleted: %v, %v", exists, err)
	}
}

// TestLogThatCannotBeReadIsAnError: a broker that has no records before the end of the log, that denies
// the fetch, or that cannot be reached.
func TestLogThatCannotBeReadIsAnError(t *testing.T) {
	s := newScene(t)
	s.produce(s.client, "t", "a", "b")
	var code atomic.Int32 // of the responses
	s.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		<-time.After(5 * time.Millisecond)
		return emptyFetch(k.(*kmsg.FetchRequest), int16(code.Load())), nil, true
	})
	l := s.open()
	read := func(ctx context.Context) error {
		_, next, err := l.Read(ctx, "t", 0, 0, 1, func(offset int64) { t.Errorf("offset %d", offset) })
		if next != 0 {
			t.Errorf("next is %d", next)
		}
		return err
	}
	l.patience = 500 * time.Millisecond
	if err := read(t.Context()); !errors.Is(err, errQuiet) || !strings.HasPrefix(err.Error(), "read the log of t/0 from offset 0: ") {
		t.Errorf("without records: %v", err)
	}
	code.Store(int32(kerr.TopicAuthorizationFailed.Code))
	l.patience = time.Hour // this error ends the wait
	if err := read(t.Context()); err == nil || !strings.Contains(err.Error(), "not authorized") {
		t.Errorf("not authorized: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("received interrupt")
	cancel(interrupted)
	if err := read(ctx); !errors.Is(err, interrupted) {
		t.Errorf("interrupted: %v", err)
	}
	unreachable := s.open()
	s.cluster.Close()
	if _, _, exists, err := unreachable.Topic(t.Context(), "t"); exists || err == nil {
		t.Errorf("no broker: %v, %v", exists, err)
	}
}

// emptyFetch returns a response without records, whose log ends at offset 2.
func emptyFetch(req *kmsg.FetchRequest, code int16) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, rt := range req.Topics {
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.HighWatermark, p.LastStableOffset, p.ErrorCode = rp.Partition, 2, 2, code
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}
