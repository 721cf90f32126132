package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestHandOverRepeatsNothing: a group moves from host to host and back. Each host resumes
// where the other stopped, and reports no reset.
func TestHandOverRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "handover", 2)
	here := s.entry("handover", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	f := s.newFeed(topic, 2)
	turn := func(e entry) *agenttest.Agent {
		t.Helper()
		f.produce(t, 1000)
		a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
		s.waitCommitted(t, a, e, f.total())
		return a
	}
	for _, e := range []entry{here, there, here} {
		stopAgent(t, turn(e))
	}
	for p := range int32(2) {
		readTrail(t, here.path).wantSeqs(t, key(topic, p), upTo(1000), seqRange(2000, 3000))
		readTrail(t, there.path).wantSeqs(t, key(topic, p), seqRange(1000, 2000))
	}
	if n := strings.Count(turn(there).Log(), "changed externally"); n != 0 {
		t.Error("a hand-over is reported as a reset")
	}
}

// TestHandOverAfterACrashRepeatsUncommittedRecordsOnly: what the crashed agent wrote after
// the last commit is in both files until it returns, and is then truncated in its own.
func TestHandOverAfterACrashRepeatsUncommittedRecordsOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "crashover", 1)
	here := s.entry("crashover", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 1000})
	a := agenttest.Start(t, agenttest.Options{Config: s.config(here)})
	s.waitCommitted(t, a, here, 1000)
	a.Apply(s.config(here.withFlush(flushNever)))
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 1000, Count: 500})
	waitLines(t, here.path, 1500) // written, but not flushed
	a.Kill()
	s.Evict(t, here.group)
	b := agenttest.Start(t, agenttest.Options{Config: s.config(there)})
	s.waitCommitted(t, b, there, 1500)
	readTrail(t, there.path).wantSeqs(t, key(topic, 0), seqRange(1000, 1500))
	stopAgent(t, b)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 1500, Count: 10})
	a = agenttest.Start(t, agenttest.Options{Config: s.config(here)})
	s.waitCommitted(t, a, here, 1510)
	readTrail(t, here.path).wantSeqs(t, key(topic, 0), upTo(1000), seqRange(1500, 1510))
}

// TestCopiedCheckpointIsReported: a host with a copy of another host's file and checkpoint
// resumes at the committed offset, and reports which records its file lacks.
func TestCopiedCheckpointIsReported(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "copied", 2)
	here := s.entry("copied", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	load := func(first, count int) {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: first, Count: count})
	}
	run := func(e entry, committed int64) *agenttest.Agent {
		t.Helper()
		a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
		s.waitCommitted(t, a, e, committed)
		return a
	}
	load(0, 500)
	stopAgent(t, run(here, 1000))
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
	stopAgent(t, run(here, 2000))
	a := agenttest.Start(t, agenttest.Options{Config: s.config(there)})
	a.WaitState(there.name, "RUNNING")
	if n := s.committed(t, there); n != 2000 {
		t.Errorf("%d records are committed, were 2000", n)
	}
	load(1000, 10)
	s.waitCommitted(t, a, there, 2020)
	for p := range int32(2) {
		readTrail(t, there.path).wantSeqs(t, key(topic, p), upTo(500), seqRange(1000, 1010))
		readTrail(t, here.path).wantSeqs(t, key(topic, p), upTo(1000))
	}
	if n, _ := a.Metrics().Value("kcagent_consumer_checkpoint_copies_total", "consumer="+there.name); n != 2 {
		t.Errorf("%v copies are counted", n)
	}
	if !strings.Contains(a.Log(), "checkpoint is a copy or a restored backup; its file lacks records") {
		t.Error("the log does not report the copy")
	}
}
