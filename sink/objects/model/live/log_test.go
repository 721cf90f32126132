package live

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// topic is the name of the topic. It is recreated under it, and the mirror has it, too.
const topic = "t"

// A broker is a Kafka cluster with the topic.
type broker struct {
	*kfake.Cluster
	id     string
	client *kgo.Client
}

// startBroker starts another cluster with an empty topic, and makes it that of the consumer.
func (s *scene) startBroker() {
	s.Helper()
	s.brokers++
	b := &broker{id: fmt.Sprintf("cluster-%d", s.brokers)}
	var err error
	if b.Cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(b.id)); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(b.Close)
	b.client, err = kgo.NewClient(kgo.SeedBrokers(b.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxVersions(kversion.V3_6_0()))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(b.client.Close)
	b.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		return s.control(b, r.(*kmsg.OffsetCommitRequest))
	})
	s.broker = b
	s.createTopic()
}

// createTopic creates the topic. Compaction removes records only when an event triggers it.
func (s *scene) createTopic() {
	s.Helper()
	configs := map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"} // the timestamps are old
	if err := s.broker.CreateTopic(topic, s.partitions, configs); err != nil {
		s.Fatal(err)
	}
	id := s.broker.TopicInfo(topic).TopicID
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topicID = base64.RawURLEncoding.EncodeToString(id[:])
	s.topics++
}

// A record is one record of the log. Its number is never used again, also not on another cluster or
// in a topic that is recreated.
type record struct {
	id        int
	topic     string // id of the topic
	partition int32
	offset    int64
	at        time.Time
	size      int  // of the value, at least
	json      bool // its value is valid JSON
	open      bool // its transaction has not ended
	aborted   bool
	removed   bool // by retention or compaction
	promised  int  // a sink has accepted it in this history of the topic, counted from 1; 0 if none has
}

// produce appends n records of the size to a partition.
func (s *scene) produce(partition, n, size int) {
	s.Helper()
	for range n {
		s.produceWith(s.broker.client, partition, size, 0, false)
	}
}

// base is the timestamp of the records, which are of two minutes: two objects a range.
var base = time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC)

// produceWith appends a record. supersedes is the number of a record with the same key; 0 for none.
func (s *scene) produceWith(client *kgo.Client, partition, size, supersedes int, transactional bool) {
	s.Helper()
	s.mu.Lock()
	s.last++
	x := &record{id: s.last, topic: s.topicID, partition: int32(partition), size: size, offset: -1, json: s.last%3 != 0, open: transactional}
	x.at = base.Add(time.Duration(x.id%2*2-1) * time.Millisecond)
	s.records = append(s.records, x) // before a process reads it
	s.mu.Unlock()
	key := x.id
	if supersedes > 0 {
		key = supersedes
	}
	r := &kgo.Record{Topic: topic, Partition: x.partition, Key: fmt.Append(nil, key), Value: x.value(), Timestamp: x.at}
	if err := client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
		s.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.offset = r.Offset
	s.ends[partition] = r.Offset + 1
}

// value is a JSON string with the number of the record, or not quite.
func (x *record) value() []byte {
	text := fmt.Appendf(nil, "#%d# ", x.id)
	text = append(text, bytes.Repeat([]byte{'x'}, max(0, x.size-len(text)))...)
	if x.json {
		return append(append([]byte{'"'}, text...), '"')
	}
	return text
}

// log returns the records of a partition of the present topic.
func (s *scene) log(partition int32) (log []*record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.records {
		if x.topic == s.topicID && x.partition == partition && x.offset >= 0 {
			log = append(log, x)
		}
	}
	return log
}

// A transaction is a transaction that has not ended.
type transaction struct {
	client  *kgo.Client
	records []*record
}

// beginTransaction produces n records in a transaction.
func (s *scene) beginTransaction(partition, n int) {
	s.Helper()
	s.transactions++
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxVersions(kversion.V3_6_0()),
		kgo.TransactionalID(fmt.Sprintf("transaction-%d", s.transactions)))
	if err != nil {
		s.Fatal(err)
	}
	if err := client.BeginTransaction(); err != nil {
		s.Fatal(err)
	}
	from := len(s.records)
	for range n {
		s.produceWith(client, partition, 0, 0, true)
	}
	s.transaction = &transaction{client, s.records[from:len(s.records):len(s.records)]}
	s.logf("%d records in a transaction", n)
}

// endTransaction ends the transaction, if there is one.
func (s *scene) endTransaction(commit bool) {
	s.Helper()
	t := s.transaction
	if t == nil {
		return
	}
	s.transaction = nil
	defer t.client.Close()
	s.mu.Lock()
	for _, x := range t.records { // before it ends: a record must not be missed
		x.open, x.aborted = false, !commit
	}
	s.mu.Unlock()
	if err := t.client.EndTransaction(context.Background(), kgo.TransactionEndTry(commit)); err != nil {
		s.Fatal(err)
	}
	s.logf("the transaction ends, committed: %v", commit)
}
