package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/agent/kafka"
	"kcagent/config"
	"kcagent/sink/template"
	"kcagent/verify/kafkalog"
)

func TestMain(m *testing.M) {
	kafka.SetUpSarama(nil)
	os.Exit(m.Run())
}

// A logScene is the topic t at an embedded broker, and objects of it.
type logScene struct {
	*objectSet
	cluster  *kfake.Cluster
	producer *kgo.Client // of transactions
	log      *kafkalog.Log
}

// newLogScene returns a scene whose log is: 0 to 2 committed, 3 the marker; 4 and 5 aborted, 6 the marker;
// 7 and 8 committed, 9 the marker.
func newLogScene(t *testing.T) *logScene {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.TransactionalID("tx"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c := new(config.Consumer)
	c.SetDefaults()
	c.Cluster.Brokers = cluster.ListenAddrs()
	c.Cluster.SetDefaults()
	s := &logScene{newObjects(t, plain), cluster, client, kafkalog.Open(c)}
	t.Cleanup(s.log.Close)
	for i, records := range []int{3, 2, 2} {
		s.transaction(i != 1, records)
	}
	if s.of.cluster, s.of.topicID, _, err = s.log.Topic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *logScene) transaction(commit bool, records int) {
	s.Helper()
	err := s.producer.BeginTransaction()
	for range records {
		err = errors.Join(err, s.producer.ProduceSync(context.Background(), &kgo.Record{Value: []byte("v")}).FirstErr())
	}
	if err = errors.Join(err, s.producer.EndTransaction(context.Background(), kgo.TransactionEndTry(commit))); err != nil {
		s.Fatal(err)
	}
}

// produce is transaction with another producer: it does not know a former topic.
func (s *logScene) produce(commit bool, records int) {
	s.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.TransactionalID("another tx"))
	if err != nil {
		s.Fatal(err)
	}
	defer client.Close()
	(&logScene{objectSet: s.objectSet, producer: client}).transaction(commit, records)
}

// deleteRecords removes the records before an offset, as retention does.
func (s *logScene) deleteRecords(before int64) {
	s.Helper()
	if err := s.cluster.DeleteRecords("t", 0, before); err != nil {
		s.Fatal(err)
	}
}

func (s *logScene) prove(allowHoles bool) (good bool, out, notes string, err error) {
	s.Helper()
	return s.proveWith(s.log, allowHoles)
}

func (s *logScene) proveWith(log Log, allowHoles bool) (good bool, out, notes string, err error) {
	s.Helper()
	var o, n strings.Builder
	of := Objects{Store: s.Memory, Keys: []*template.Template{s.key}, Deep: true, Log: log}
	good, err = of.Prove(s.Context(), ObjectsReport{AllowHoles: allowHoles, Out: &o, Notes: &n})
	return good, o.String(), n.String(), err
}

// TestLogExplainsOffsetsWithoutARecord: gaps between ranges, and unused offsets of a range. Only records
// that the log has are missing, whether or not gaps are allowed.
func TestLogExplainsOffsetsWithoutARecord(t *testing.T) {
	const id = "a2345678"
	for _, tt := range []struct {
		name  string
		write func(s *logScene)
		good  bool // without --allow-holes
		allow bool // with it
		row   string
		out   string // regular expression
	}{
		{"markers and an aborted transaction", func(s *logScene) {
			s.rangeOf(id, 0, 2, 0, 0, 1, 2)
			s.rangeOf(id, 7, 9, 0, 7, 8)
		}, true, true, "0 9 2 2 4 0 5 1 0 0", `t/0: gap of offsets 3 to 6 before t/0/0{19}7\S+: explained: the log has no record there that the consumer writes\n$`},
		{"a range without an object", func(s *logScene) {
			s.rangeOf(id, 0, 0, 0, 0)
			s.rangeOf(id, 8, 8, 0, 8)
		}, false, false, "0 8 2 2 7 0 2 0 3 0", `: missing: the log has 3 records there\nt/0: offsets 1 to 2 are missing at t/0/0{19}8\S+\nt/0: offset 7 is missing at t/0/0{19}8`},
		{"a record is missing in its object", func(s *logScene) {
			s.rangeOf(id, 0, 9, 0, 0, 2, 7)
		}, false, false, "0 9 1 1 0 0 3 7 2 0", `t/0: offset 1 is missing at t/0/0{20}-\S+\nt/0: offset 8 is missing at`},
		{"unused offsets only", func(s *logScene) {
			s.rangeOf(id, 0, 9, 0, 0, 1, 2, 7, 8)
		}, true, true, "0 9 1 1 0 0 5 5 0 0", ``},
		{"records that retention has removed", func(s *logScene) {
			s.rangeOf(id, 0, 0, 0, 0)
			s.rangeOf(id, 3, 6, 0)
			s.rangeOf(id, 8, 8, 0, 8)
			s.deleteRecords(7)
		}, false, false, "0 8 3 3 3 0 2 4 1 2", `gap of offsets 1 to 2 before \S+: unknown: removed by retention, the log begins at offset 7\n` +
			`t/0: gap of offset 7 before \S+: missing: the log has 1 record there\nt/0: offset 7 is missing at .*\nt/0: 4 unused offsets unknown: removed by retention, the log begins at offset 7\n`},
		{"a gap of which a part is removed", func(s *logScene) {
			s.rangeOf(id, 0, 0, 0, 0)
			s.rangeOf(id, 7, 8, 0, 7, 8)
			s.deleteRecords(3)
		}, false, true, "0 8 2 2 6 0 3 0 0 2", `gap of offsets 1 to 6 before \S+: 2 offsets unknown: removed by retention, the log begins at offset 3\n`},
		{"beyond the end of the log", func(s *logScene) {
			s.rangeOf(id, 7, 9, 0, 7, 8)
			s.rangeOf(id, 12, 12, 0, 12)
		}, false, true, "7 12 2 2 2 0 3 1 0 2", `unknown: beyond the end of the log, which is offset 10\n`},
		{"objects of a former topic", func(s *logScene) {
			s.of.topicID = "former"
			s.rangeOf(id, 0, 0, 0, 0)
			s.rangeOf(id, 7, 9, 0, 7, 8)
		}, false, true, "0 9 2 2 6 0 3 1 0 6", `unknown: the topic was recreated, the objects are of the topic id former, the log is of the topic id \S+\n` +
			`t/0: 1 unused offset unknown: the topic was recreated`},
		{"a gap between two topics", func(s *logScene) {
			now := s.of
			s.of.topicID = "former"
			s.rangeOf(id, 0, 2, 0, 0, 1, 2)
			s.of = now
			s.rangeOf(id, 7, 8, 0, 7, 8)
		}, false, true, "0 8 2 2 4 0 5 0 0 4", `unknown: the topic was recreated, the objects before and after the gap are of different topics\n`},
		{"objects of another cluster", func(s *logScene) {
			s.of.cluster = ""
			s.rangeOf(id, 0, 2, 0, 0, 1, 2)
			s.rangeOf(id, 7, 8, 0, 7, 8)
		}, false, true, "0 8 2 2 4 0 5 0 0 4", `unknown: the objects are of the cluster unknown, the log is of the cluster \S+\n`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newLogScene(t)
			tt.write(s)
			for allow, want := range map[bool]bool{false: tt.good, true: tt.allow} {
				good, out, notes, err := s.prove(allow)
				if err != nil || good != want || row(out) != tt.row || !regexp.MustCompile(tt.out).MatchString(out) {
					t.Errorf("holes allowed %v: good %v, %v, %s\n%s%s", allow, good, err, row(out), out, notes)
				}
				if advice := strings.Contains(notes, "--allow-holes accepts gaps that are not explained"); advice == (allow || tt.allow == tt.good && !strings.HasSuffix(tt.row, " 2")) {
					t.Errorf("holes allowed %v: notes %s", allow, notes)
				}
			}
		})
	}
}

// A recreatedLog is a log whose topic is recreated before the first Read.
type recreatedLog struct {
	*logScene
	commit  bool // the transaction of the new topic
	noticed bool // before Read
	reads   int
}

func (l *recreatedLog) Topic(ctx context.Context, topic string) (cluster, id string, exists bool, err error) {
	return l.log.Topic(ctx, topic)
}

func (l *recreatedLog) Read(ctx context.Context, topic string, partition int32, from, to int64, found func(offset int64)) (first, next int64, err error) {
	if l.reads++; l.reads == 1 {
		if err := errors.Join(l.cluster.DeleteTopic(topic), l.cluster.CreateTopic(topic, 1, nil)); err != nil {
			l.Fatal(err)
		}
		l.produce(l.commit, 12)
		for id := l.of.topicID; l.noticed && id == l.of.topicID; {
			var err error
			if _, id, _, err = l.log.Topic(ctx, topic); err != nil {
				l.Fatal(err)
			}
		}
	}
	return l.log.Read(ctx, topic, partition, from, to, found)
}

// TestTopicRecreatedDuringTheProofExplainsNothing: what the new topic has at the offsets of a gap says
// nothing about the former topic. The gap is neither explained nor are records missing.
func TestTopicRecreatedDuringTheProofExplainsNothing(t *testing.T) {
	for _, tt := range []struct{ commit, noticed bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		t.Run(fmt.Sprintf("commit %v, noticed %v", tt.commit, tt.noticed), func(t *testing.T) {
			t.Parallel()
			s := newLogScene(t)
			s.rangeOf("", 0, 0, 0, 0)
			s.rangeOf("", 3, 3, 0)
			s.rangeOf("", 7, 8, 0, 7, 8)
			log := &recreatedLog{logScene: s, commit: tt.commit, noticed: tt.noticed}
			good, out, notes, err := s.proveWith(log, false)
			if good || err != nil || row(out) != "0 8 3 3 5 0 3 1 0 5" || strings.Count(out, "unknown: the topic was recreated, the objects are of the topic id "+s.of.topicID+", the log is of the topic id ") != 3 {
				t.Errorf("good %v, %v, %s\n%s%s", good, err, row(out), out, notes)
			}
			if log.reads > 2 { // for the first gap, and the range after it
				t.Errorf("the log was read %d times", log.reads)
			}
		})
	}
}

// TestDeletedTopicExplainsNothing: a topic that does not exist is not an error of the proof.
func TestDeletedTopicExplainsNothing(t *testing.T) {
	s := newLogScene(t)
	s.write(strings.ReplaceAll(s.rangeOf("", 0, 0, 0, 0), "t/0", "u/0"), record("u", 0, 0, 0), meta("u", s.of, 0))
	s.write(fmt.Sprintf("u/0/%020d-%020d-.jsonl", 2, 2), record("u", 0, 2, 0), meta("u", s.of, 2))
	good, out, _, err := s.prove(false)
	if good || err != nil || !strings.Contains(out, "u/0: gap of offset 1 before u/0/00000000000000000002-00000000000000000002-.jsonl: unknown: the topic does not exist\n") {
		t.Errorf("good %v, %v\n%s", good, err, out)
	}
}

// meta returns the metadata of an object with one record.
func meta(topic string, of origin, offset int) map[string]string {
	return map[string]string{
		metaTopic: topic, metaPartition: "0", metaFirst: fmt.Sprint(offset), metaLast: fmt.Sprint(offset), metaCount: "1", metaObjects: "1", metaCluster: of.cluster, metaTopicID: of.topicID,
	}
}

// TestLogThatCannotBeReadEndsTheProof: the objects are proven to their end, and the error follows.
func TestLogThatCannotBeReadEndsTheProof(t *testing.T) {
	s := newLogScene(t)
	s.rangeOf("", 0, 0, 0, 0)
	s.rangeOf("", 2, 2, 0, 2)
	s.rangeOf("", 7, 8, 0, 7)
	s.cluster.Close()
	for _, allow := range []bool{false, true} {
		good, out, _, err := s.prove(allow)
		if good || err == nil || row(out) != "0 8 3 3 5 0 3 1 0 5" || strings.Count(out, "unknown: the log cannot be read\n") != 3 {
			t.Errorf("good %v, %v\n%s", good, err, out)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("received interrupt")
	cancel(interrupted)
	of := Objects{Store: s.Memory, Keys: []*template.Template{s.key}, Deep: true, Log: s.log}
	var out strings.Builder
	if good, err := of.Prove(ctx, ObjectsReport{Out: &out, Notes: &out}); good || err == nil || out.Len() > 0 {
		t.Errorf("interrupted: good %v, %v\n%s", good, err, out.String())
	}
}

// TestGapsThatAreNotExplainedAreListedFirst: ten gaps are listed.
func TestGapsThatAreNotExplainedAreListedFirst(t *testing.T) {
	var r Ranges
	for i := range int64(12) {
		g := newGap(2*i, 2*i, "key")
		if i < 11 {
			g.Unknown, g.Reason = 0, ""
		}
		r.addGap(g)
	}
	var b strings.Builder
	r.list(&b, "t/0")
	if n := strings.Count(b.String(), "explained: "); n != 9 || !strings.Contains(b.String(), "t/0: gap of offset 22 before key: "+unread+"\nt/0: 2 more offsets are in gaps\n") {
		t.Errorf("%d gaps are explained:\n%s", n, b.String())
	}
}
