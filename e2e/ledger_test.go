package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestCopiedFileIsReported: a host with a copy of another one's file and checkpoint
// resumes at the committed offset, and reports what its file lacks.
func TestCopiedFileIsReported(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "copied", 2)
	here := s.entry("copied", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	load := func(first, count int) {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: first, Count: count})
	}
	run := func(e entry, committed int64) *agenttest.Agent {
		t.Helper()
		a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
		s.waitCommitted(t, a, e, committed)
		return a
	}
	load(0, 500)
	stop(t, run(here, 1000))
	files, err := filepath.Glob(here.path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(there.path+strings.TrimPrefix(f, here.path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load(500, 500)
	stop(t, run(here, 2000))
	a := agenttest.Start(t, agenttest.Options{Config: s.file(there)})
	a.WaitState(there.name, "RUNNING")
	if n := s.committed(t, there); n != 2000 {
		t.Errorf("%d records are committed, were 2000", n)
	}
	load(1000, 10)
	s.waitCommitted(t, a, there, 2020)
	for p := range int32(2) {
		follow(t, there.path).wantSeqs(t, key(topic, p), upTo(500), from(1000, 1010))
		follow(t, here.path).wantSeqs(t, key(topic, p), upTo(1000))
	}
	if n, _ := a.Metrics().Value("kcagent_consumer_checkpoint_copies_total", "consumer="+there.name); n != 2 {
		t.Errorf("%v copies are counted", n)
	}
	if !strings.Contains(a.Log(), "checkpoint is a copy or a restored backup; its file lacks records") {
		t.Error("the log does not say it")
	}
}

// TestBadFilesStopTheirPartitionsOnly: two of six files cannot be opened. The other four
// partitions flow, the group is not rebalanced, and the rest follows when the files are
// good.
func TestBadFilesStopTheirPartitionsOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "badfiles", 6)
	e := s.entry("badfiles", topic).withPath(filepath.Join(s.dir, "badfiles-{partition}.log"))
	path := func(p int) string { return filepath.Join(s.dir, fmt.Sprintf("badfiles-%d.log", p)) }
	for _, p := range []int{1, 4} {
		if err := os.Mkdir(path(p), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 6, Count: 300})
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	c := a.WaitState(e.name, "ERROR")
	if !strings.Contains(c.Error(), path(1)) && !strings.Contains(c.Error(), path(4)) {
		t.Errorf("the error names no file: %s", c.Error())
	}
	c = a.WaitConsumer(e.name, "commit four partitions", func(c agenttest.Consumer) bool { return c.Committed() >= 4*300 })
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 6, First: 300, Count: 100})
	a.WaitConsumer(e.name, "commit four partitions again", func(c agenttest.Consumer) bool { return c.Committed() >= 4*400 })
	for _, p := range []int{1, 4} {
		if err := os.Remove(path(p)); err != nil {
			t.Fatal(err)
		}
	}
	s.waitCommitted(t, a, e, 6*400)
	after := a.WaitState(e.name, "RUNNING")
	if after.Generation != c.Generation || after.RebalancesTotal != 1 {
		t.Errorf("generation %d and %d rebalances, was generation %d", after.Generation, after.RebalancesTotal, c.Generation)
	}
	for p := range 6 {
		follow(t, path(p)).wantSeqs(t, key(topic, int32(p)), upTo(400))
	}
}

// TestTopicCreatedWhileTheAgentIsDown: a named topic that did not exist is read from its
// first record, whatever start says.
func TestTopicCreatedWhileTheAgentIsDown(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic, later := s.topic(t, "there", 1), "later-"+s.suffix
	e := s.entry("whiledown", topic, later).with("start: latest")
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	a.WaitConsumer(e.name, "read the one that exists", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && len(c.Partitions) == 1 && c.Partitions[0].CommittedOffset == 0
	})
	stop(t, a)
	s.CreateTopic(t, later, 2)
	s.Produce(t, kafkatest.Load{Topic: later, Partitions: 2, Count: 100})
	a = agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	a.WaitState(e.name, "RUNNING")
	s.waitCommitted(t, a, e, 200)
	for p := range int32(2) {
		follow(t, e.path).wantSeqs(t, key(later, p), upTo(100))
	}
}
