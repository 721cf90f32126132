package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// newProducer returns a client that produces to the partitions that its records name.
func (s *scene) newProducer(t *testing.T, topic string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.Addrs()...), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// produceValues produces records one after the other.
func produceValues(t *testing.T, c *kgo.Client, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := c.ProduceSync(context.Background(), &kgo.Record{Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAbortedTransactionsAreSkipped interleaves committed and aborted transactions of two
// producers with records outside of transactions.
func TestAbortedTransactionsAreSkipped(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "transactions", 1)
	committed := s.entry("committed", topic)
	all := s.entry("all", topic).with("isolation: read_uncommitted")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(committed, all)})
	plain := s.newProducer(t, topic)
	one, two := s.newProducer(t, topic, kgo.TransactionalID(topic+"1")), s.newProducer(t, topic, kgo.TransactionalID(topic+"2"))
	var wantAllWithRepeats, wantCommitted []string
	for round := range 40 {
		for _, c := range []*kgo.Client{one, two} {
			if err := c.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
		}
		vs := make([]string, 5)
		for i, c := range []*kgo.Client{one, two, plain, one, two} {
			vs[i] = fmt.Sprintf("%d-%d", round, i)
			produceValues(t, c, vs[i])
		}
		// The first is aborted in two of three rounds, the second in every other round.
		ends := []kgo.TransactionEndTry{kgo.TransactionEndTry(round%3 == 0), kgo.TransactionEndTry(round%2 == 0)}
		for i, c := range []*kgo.Client{one, two} {
			if err := c.EndTransaction(context.Background(), ends[i]); err != nil {
				t.Fatal(err)
			}
		}
		wantAllWithRepeats = append(wantAllWithRepeats, vs...)
		for i, v := range vs {
			if i == 2 || bool(ends[i%3]) {
				wantCommitted = append(wantCommitted, v)
			}
		}
	}
	for e, want := range map[*entry][]string{&committed: wantCommitted, &all: wantAllWithRepeats} {
		a.WaitConsumer(e.name, "read everything, including the transaction markers", func(c agenttest.Consumer) bool {
			// The broker writes the last markers a moment after the end of the transaction.
			return c.RecordsTotal == int64(len(want)) && c.HasLag(0) && c.Committed() == c.Partitions[0].HighWaterMark
		})
		got := string(bytes.Join(lines(t, e.path), []byte(" ")))
		if got != strings.Join(want, " ") {
			t.Errorf("%s got %s\nwant %s", e.name, got, strings.Join(want, " "))
		}
	}
}

// TestOpenTransactionIsNotLag: records of an open transaction and those after it are not
// read yet, and do not count as lag, whether the consumer runs or is paused. Once the
// transaction has ended, they do.
func TestOpenTransactionIsNotLag(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "open", 1)
	e, paused := s.entry("open", topic), s.entry("idle", topic).with("state: paused")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, paused)})
	plain, tx := s.newProducer(t, topic), s.newProducer(t, topic, kgo.TransactionalID(topic))
	produceValues(t, plain, "a")
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produceValues(t, tx, "b")
	produceValues(t, plain, "c")
	a.WaitConsumer("open", "stop before the transaction", func(c agenttest.Consumer) bool {
		return c.RecordsTotal == 1 && c.HasLag(0) && c.Partitions[0].HighWaterMark == 3
	})
	a.WaitConsumer("idle", "have a lag up to the transaction", func(c agenttest.Consumer) bool { return c.HasLag(1) })
	if err := tx.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	waitLines(t, e.path, 3)
	if got := string(bytes.Join(lines(t, e.path), []byte(" "))); got != "a b c" {
		t.Errorf("got %s", got)
	}
	a.WaitConsumer("idle", "have a lag up to the end", func(c agenttest.Consumer) bool {
		return c.HasLag(4) && c.CatchUpSeconds == nil // the marker of the transaction has an offset, too
	})
	if lag, ok := a.Metrics().Value("kcagent_consumer_lag_records", "consumer=idle"); !ok || lag != 4 {
		t.Errorf("the lag in the metrics is %v (%v), want 4", lag, ok)
	}
}

// TestEveryCompressionAndSizeIsRead reads records of all compressions and sizes, up to one
// that is larger than max_partition_bytes and the fetcher's memory.
func TestEveryCompressionAndSizeIsRead(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := "sizes-" + s.suffix
	s.CreateTopic(t, topic, 1, "max.message.bytes=10000000")
	e := s.entry("sizes", topic).with("max_partition_bytes: 64KiB")
	var want []string
	for _, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		c := s.newProducer(t, topic, kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(9_000_000))
		for _, size := range []int{0, 1, 100, 10_000, 1_000_000, 5_000_000} {
			v := strings.Repeat(fmt.Sprintf("%09d", len(want)), size/9+1)[:size]
			produceValues(t, c, v)
			want = append(want, v)
		}
		recs := make([]*kgo.Record, 3000)
		for i := range recs {
			v := fmt.Sprintf("%d of many", i)
			recs[i] = &kgo.Record{Value: []byte(v)}
			want = append(want, v)
		}
		if err := c.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	text := configText(map[string][]string{"main": s.Addrs()}, e)
	text = strings.Replace(text, "{brokers:", "{fetch: {lanes: 1, max_bytes: 1MiB}, brokers:", 1)
	agenttest.Start(t, agenttest.Options{Config: text})
	waitLines(t, e.path, len(want))
	for i, line := range lines(t, e.path) {
		if string(line) != want[i] {
			t.Fatalf("record %d is %.50q (%d bytes), want %.50q (%d bytes)", i, line, len(line), want[i], len(want[i]))
		}
	}
}

// TestRetentionDuringAPauseCountsAsReset: a consumer that resumes behind the start of the
// log continues at the first record left, and reports it.
func TestRetentionDuringAPauseCountsAsReset(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "retention", 1)
	e := s.entry("slow", topic)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 10})
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 10)
	a.Apply(s.config(e.withState("paused")))
	a.WaitState("slow", "PAUSED")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 10, Count: 90})
	s.DeleteRecords(t, topic, 0, 50)
	a.Apply(s.config(e))
	a.WaitConsumer("slow", "read the rest", func(c agenttest.Consumer) bool { return c.RecordsTotal == 60 && c.Status == "RUNNING" })
	got := readTrail(t, e.path)[key(topic, 0)]
	if len(got) != 60 || got[9] != 9 || got[10] != 50 || got[59] != 99 {
		t.Errorf("the file holds %v", got)
	}
	s.wantResets(t, a, e, 1)
	if !strings.Contains(a.Log(), "offset out of range; applying on_offset_out_of_range") {
		t.Error("the log does not report the reset")
	}
}

// TestCompactedTopicIsReadToItsEnd: gaps in the offsets, and a tombstone as the last
// record, leave no lag.
func TestCompactedTopicIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	s := newSceneOn(t, kafkatest.Start(t, kafkatest.Options{Properties: map[string]string{"log.cleaner.backoff.ms": "100"}}))
	topic := "compacted-" + s.suffix
	s.CreateTopic(t, topic, 1, "cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.01", "max.compaction.lag.ms=1000")
	c := s.newProducer(t, topic)
	const keys, rounds = 5, 200
	for i := range keys * rounds {
		if err := c.ProduceSync(context.Background(), &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%keys), Value: fmt.Appendf(nil, "%d", i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(300 * time.Millisecond) // segment.ms: the next record starts a segment
	send := func(key string, value []byte) {
		if err := c.ProduceSync(context.Background(), &kgo.Record{Key: []byte(key), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	send("k0", nil)
	wait.For(t, 2*wait.Timeout, "compaction", func() error {
		if n := countRecords(t, s, topic); n > 3*keys {
			return fmt.Errorf("there are %d records", n)
		}
		return nil
	})
	e := s.entry("compacted", topic).withFormat("json")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer("compacted", "reach the end", func(c agenttest.Consumer) bool {
		return c.HasLag(0) && c.Committed() == keys*rounds+1
	})
	send("k1", []byte("last"))
	last := fmt.Sprintf(`"offset":%d,`, keys*rounds+1)
	wait.For(t, wait.Timeout, "the last record", func() error {
		ls := lines(t, e.path)
		if len(ls) == 0 || !bytes.Contains(ls[len(ls)-1], []byte(last)) {
			return fmt.Errorf("%d lines", len(ls))
		}
		return nil
	})
	if n := len(lines(t, e.path)); n < keys || n > 4*keys {
		t.Errorf("%d records of a compacted topic", n)
	}
}

// countRecords returns how many records partition 0 of a topic holds.
func countRecords(t *testing.T, s *scene, topic string) int {
	t.Helper()
	end := s.EndOffsets(t, topic)[0]
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Addrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	for {
		fs := c.PollFetches(context.Background())
		for _, r := range fs.Records() {
			if n++; r.Offset == end-1 {
				return n
			}
		}
	}
}
