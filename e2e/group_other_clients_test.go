package e2e

import (
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
)

// TestProgressOfAnotherClientDoesNotCountAsReset: a Java consumer in the group takes over a
// partition, commits and gives it back, while the agent runs and while it is down. The
// agent continues after the commits, and neither the log nor the metrics report a reset.
func TestProgressOfAnotherClientDoesNotCountAsReset(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "foreign", 2)
	e := s.entry("foreign", topic)
	f := s.newFeed(topic, 2)
	f.produce(t, 100)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 200)

	leave := s.JavaMember(t, e.group, topic)
	ours := a.WaitConsumer(e.name, "share the topic", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 1
	}).Partitions[0].Partition
	f.produce(t, 100)
	s.waitGroupCommitted(t, e, f.total())
	leave()
	a.WaitConsumer(e.name, "have both partitions again", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 2
	})
	f.produce(t, 100)
	s.waitCommitted(t, a, e, 600)
	tr := readTrail(t, e.path)
	tr.wantSeqs(t, key(topic, ours), upTo(300))
	tr.wantSeqs(t, key(topic, 1-ours), upTo(100), seqRange(200, 300))
	quiet := func(want int) {
		t.Helper()
		s.wantResets(t, a, e, 0)
		if log := a.Log(); strings.Contains(log, "changed externally") || strings.Count(log, "a group member of another client continued with the partition") != want {
			t.Errorf("the log reports a reset, or lacks %d messages about the other member", want)
		}
	}
	quiet(1)

	stopAgent(t, a)
	leave = s.JavaMember(t, e.group, topic)
	f.produce(t, 100)
	s.waitGroupCommitted(t, e, f.total())
	leave()
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitState(e.name, "RUNNING")
	f.produce(t, 100)
	s.waitCommitted(t, a, e, 1000)
	quiet(2)
	stopAgent(t, a)

	s.ResetOffsets(t, e.group, topic, map[int32]int64{0: 480})
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 1000)
	s.wantResets(t, a, e, 1)
}
