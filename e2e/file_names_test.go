package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestTopicsNeverShareFiles: topics appear whose names are those of the files beside
// another topic's file. Each record is once in the files of its own topic, through kill -9
// and a restart.
func TestTopicsNeverShareFiles(t *testing.T) {
	t.Parallel()
	for name, sink := range map[string]string{
		"plain":   "rotate: {size: 4KiB}",
		"gzipped": "rotate: {size: 1KiB}, compression: gzip",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTopicsNeverShareFiles(t, sink)
		})
	}
}

func testTopicsNeverShareFiles(t *testing.T, sink string) {
	t.Helper()
	const partitions, each = 2, 300
	s := newScene(t)
	orders := s.newTopic(t, "orders", partitions)
	e := s.entry("names").with("topics_regex: '^" + orders + "'").withPath(filepath.Join(s.dir, "files", "{topic}")).withSink(sink)
	topics := []string{orders}
	produced := 0 // records in each partition
	produce := func() {
		t.Helper()
		for _, topic := range topics {
			s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: produced, Count: each})
		}
		produced += each
	}
	waitAll := func(a *agenttest.Agent) {
		t.Helper()
		s.waitCommitted(t, a, e.withTopics(topics...), int64(len(topics)*partitions*produced))
	}
	text := s.config(e)
	a := agenttest.Start(t, agenttest.Options{Config: text})
	a.WaitState(e.name, "RUNNING")
	for _, suffix := range []string{".next", ".checkpoint", ".lock", ".gz", ".log", "-20261123T171500.000Z", "-20261123T171500.000Z.log"} {
		topics = append(topics, orders+suffix)
		s.CreateTopic(t, orders+suffix, partitions)
	}
	produce()
	a.WaitConsumer(e.name, "read all topics", func(c agenttest.Consumer) bool { return len(c.Topics) == len(topics) })
	waitAll(a)

	produce()
	a.WaitConsumer(e.name, "read some more", func(c agenttest.Consumer) bool { return c.RecordsTotal > int64(len(topics)*partitions*each) })
	a.Kill()
	s.Evict(t, e.group)
	a = agenttest.Start(t, agenttest.Options{Config: text})
	waitAll(a)
	stopAgent(t, a)
	produce()
	a = agenttest.Start(t, agenttest.Options{Config: text})
	waitAll(a)
	stopAgent(t, a)

	known := 0
	for _, topic := range topics {
		files := allFiles(t, e.pathOf(topic))
		if len(files) < 3 {
			t.Errorf("%s has the files %q", topic, files)
		}
		tr := readTrail(t, files...)
		if tr.wantExact(t, topic, partitions, produced); len(tr) != partitions {
			t.Errorf("the files of %s hold records of %d partitions, want %d", topic, len(tr), partitions)
		}
		for _, path := range append(files, e.pathOf(topic)+"+checkpoint") {
			if _, err := os.Stat(path); err == nil {
				known++
			}
		}
	}
	found, err := os.ReadDir(filepath.Dir(e.path))
	if err != nil || len(found) != known {
		t.Errorf("the folder has %d files, %d of them belong to topics; %v", len(found), known, err)
	}
}

// TestLongTopicNameStopsItsPartitionsOnly: a topic appears whose name is too long for a
// file. The consumer reports the path, the other topics are read, and the group is not
// rebalanced.
func TestLongTopicNameStopsItsPartitionsOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	short := s.newTopic(t, "long", 2)
	long := short + "-" + strings.Repeat("x", 249-len(short)-1)
	e := s.entry("long").with("topics_regex: '^" + short + "'").withPath(filepath.Join(s.dir, "{topic}"))
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitState(e.name, "RUNNING")
	s.CreateTopic(t, long, 2)
	s.Produce(t, kafkatest.Load{Topic: long, Partitions: 2, Count: 10})
	f := s.newFeed(short, 2)
	f.produce(t, 100)
	was := a.WaitConsumer(e.name, "report the path of the long name", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), e.pathOf(long))
	})
	for range 4 {
		f.produce(t, 100)
		a.WaitConsumer(e.name, "commit the other topic", func(c agenttest.Consumer) bool { return c.Committed() == f.total() })
	}
	is := a.Consumer(e.name)
	if is.Generation != was.Generation || is.RebalancesTotal != was.RebalancesTotal || is.RestartsTotal != 0 {
		t.Errorf("generation %d, %d rebalances, %d restarts; was generation %d, %d rebalances",
			is.Generation, is.RebalancesTotal, is.RestartsTotal, was.Generation, was.RebalancesTotal)
	}
	if is.Status != "ERROR" || !strings.Contains(is.Error(), e.pathOf(long)) {
		t.Errorf("the consumer is %s: %s", is.Status, is.Error())
	}
	readTrail(t, e.pathOf(short)).wantExact(t, short, 2, 500)
	if n := s.committed(t, e.withTopics(long)); n != 0 {
		t.Errorf("%d records of the long topic are committed", n)
	}
	s.DeleteTopic(t, long)
	c := a.WaitState(e.name, "RUNNING")
	if !slices.Equal(c.Topics, []string{short}) {
		t.Errorf("the consumer reads %q", c.Topics)
	}
}
