package e2e

import (
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestResetOffsetsTakePrecedenceOverTheCheckpoint: committed offsets that an operator
// resets are applied, once for each reset, although the checkpoint says otherwise.
func TestResetOffsetsTakePrecedenceOverTheCheckpoint(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "reset", 2)
	e := s.entry("reset", topic)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 1000})
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 2000)
	a.Apply(s.config(e.withState("stopped")))
	a.WaitState(e.name, "CREATED")
	first, second := key(topic, 0), key(topic, 1)
	for round, back := range []int64{400, 400, 0} { // the same offset twice
		s.ResetOffsets(t, e.group, topic, map[int32]int64{1: back})
		a.Apply(s.config(e))
		s.waitCommitted(t, a, e, 2000)
		want := [][]int{upTo(1000), seqRange(400, 1000), seqRange(400, 1000), upTo(1000)}[:round+2]
		readTrail(t, e.path).wantSeqs(t, second, want...)
		s.wantResets(t, a, e, float64(round+1))
		if !strings.Contains(a.Log(), "committed offset was changed externally; resuming there") {
			t.Error("the log does not report the reset")
		}
		a.Apply(s.config(e.withState("stopped")))
		a.WaitState(e.name, "CREATED")
	}
	// A reset forward skips the records in between.
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 1000, Count: 500})
	s.ResetOffsets(t, e.group, topic, map[int32]int64{1: 1400})
	stopAgent(t, a)
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 3000)
	tr := readTrail(t, e.path)
	tr.wantSeqs(t, second, upTo(1000), seqRange(400, 1000), seqRange(400, 1000), upTo(1000), seqRange(1400, 1500))
	tr.wantSeqs(t, first, upTo(1500))
}

// TestKillAfterAResetAppliesItOnce: a crash soon after a reset neither loses the reset nor
// applies it again.
func TestKillAfterAResetAppliesItOnce(t *testing.T) {
	t.Parallel()
	const kills, each = 6, 20_000
	s := newScene(t)
	topic := s.newTopic(t, "resetkill", 1)
	e := s.entry("resetkill", topic).withFlush("{interval: 20ms}")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: each})
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, each)
	stopAgent(t, a)
	s.ResetOffsets(t, e.group, topic, map[int32]int64{0: 5})
	for range kills {
		before := len(lines(t, e.path))
		a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
		a.WaitState(e.name, "RUNNING")
		if before < each+each-5 {
			waitLines(t, e.path, before+1)
		}
		a.Kill()
		s.Evict(t, e.group)
	}
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, each)
	readTrail(t, e.path).wantSeqs(t, key(topic, 0), upTo(each), seqRange(5, each))
}
