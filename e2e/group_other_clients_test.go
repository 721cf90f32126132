package e2e

import (
	"fmt"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestProgressOfAnotherClientIsNoReset: a Java consumer in the group takes a partition,
// commits, and gives it back, while the agent is up and while it is down. What it
// committed counts, and neither the log nor the metrics call it a reset.
func TestProgressOfAnotherClientIsNoReset(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "foreign", 2)
	e := s.entry("foreign", topic)
	made := 0
	more := func() {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: made, Count: 100})
		made += 100
	}
	more()
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 200)

	committed := func() {
		t.Helper()
		wait.For(t, wait.Timeout, "the commits of both", func() error {
			if n := s.committed(t, e); n != int64(2*made) {
				return fmt.Errorf("%d records are committed, want %d", n, 2*made)
			}
			return nil
		})
	}
	leave := s.JavaMember(t, e.group, topic)
	ours := a.WaitConsumer(e.name, "share the topic", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 1
	}).Partitions[0].Partition
	more()
	committed()
	leave()
	a.WaitConsumer(e.name, "have both partitions again", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 2
	})
	more()
	s.waitCommitted(t, a, e, 600)
	tr := readTrail(t, e.path)
	tr.wantSeqs(t, key(topic, ours), upTo(300))
	tr.wantSeqs(t, key(topic, 1-ours), upTo(100), seqRange(200, 300))
	quiet := func(want int) {
		t.Helper()
		s.wantResets(t, a, e, 0)
		if log := a.Log(); strings.Contains(log, "changed externally") || strings.Count(log, "a group member of another client continued with the partition") != want {
			t.Errorf("the log calls it a reset, or does not say %d times what happened", want)
		}
	}
	quiet(1)

	stopAgent(t, a)
	leave = s.JavaMember(t, e.group, topic)
	more()
	committed()
	leave()
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitState(e.name, "RUNNING")
	more()
	s.waitCommitted(t, a, e, 1000)
	quiet(2)
	stopAgent(t, a)

	s.ResetOffsets(t, e.group, topic, map[int32]int64{0: 480})
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 1000)
	s.wantResets(t, a, e, 1)
}
