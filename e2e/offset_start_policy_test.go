package e2e

import (
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestStartPolicyIgnoresLaterPartitions: the start policy applies to the partitions that
// exist when the group first reads. Partitions and topics that are created later are read
// from their first record, whether the agent runs at that time or not.
func TestStartPolicyIgnoresLaterPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	grows, family := s.newTopic(t, "grows", 2), s.newTopic(t, "family-a", 1)
	absent := "absent-" + s.suffix
	latest := func(e entry) entry { return e.with("start: latest") }
	grown, awaited := latest(s.entry("grown", grows)), latest(s.entry("awaited", absent))
	related := latest(s.entry("related").with("topics_regex: '^family-.*" + s.suffix + "$'"))
	for _, topic := range []string{grows, family} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(grown, related, awaited)})
	a.WaitState("grown", "RUNNING")
	a.WaitState("related", "RUNNING")
	a.WaitState("awaited", "ERROR")
	load := func(topic string, partitions int32, first int) {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: first, Count: 50})
	}
	load(grows, 2, 100)
	s.AddPartitions(t, grows, 4)
	load(grows, 4, 150)
	second := s.newTopic(t, "family-b", 2)
	load(second, 2, 0)
	s.CreateTopic(t, absent, 2)
	load(absent, 2, 0)
	s.waitCommitted(t, a, grown, 200+100+50+50) // start: latest skips the first hundred
	s.waitCommitted(t, a, awaited, 100)
	s.waitCommitted(t, a, related.withTopics(family, second), 100+100)

	soon := "soon-" + s.suffix
	awaited = awaited.withTopics(absent, soon)
	a.Write(s.config(grown, related, awaited))
	a.WaitConsumer("awaited", "wait for the topic", func(c agenttest.Consumer) bool {
		return c.PendingChange != nil && c.PendingChange.Tries > 0 && c.PendingChange.Error != ""
	})
	s.CreateTopic(t, soon, 1)
	load(soon, 1, 0)
	s.waitCommitted(t, a, awaited, 100+50)

	stopAgent(t, a)
	s.AddPartitions(t, grows, 5)
	load(grows, 5, 200)
	third := s.newTopic(t, "family-c", 1)
	load(third, 1, 0)
	a = agenttest.Start(t, agenttest.Options{Path: a.Path})
	s.waitCommitted(t, a, grown, 250+150+100+100+50)
	s.waitCommitted(t, a, related.withTopics(family, second, third), 100+100+50)
	tr := readTrail(t, grown.path, related.path, awaited.path)
	for partition, want := range map[string][]int{
		key(grows, 0): seqRange(100, 250), key(grows, 1): seqRange(100, 250), key(grows, 2): seqRange(150, 250), key(grows, 3): seqRange(150, 250), key(grows, 4): seqRange(200, 250),
		key(second, 0): upTo(50), key(second, 1): upTo(50), key(third, 0): upTo(50), key(soon, 0): upTo(50), key(absent, 0): upTo(50), key(absent, 1): upTo(50),
	} {
		tr.wantSeqs(t, partition, want)
	}
	if got := len(tr); got != 11 {
		t.Errorf("records of %d partitions were read: %v", got, tr)
	}
}

// TestStartPolicyIgnoresTopicCreatedWhileAgentIsDown: a topic of the list that did not
// exist before is read from its first record, whatever the start policy is.
func TestStartPolicyIgnoresTopicCreatedWhileAgentIsDown(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic, later := s.newTopic(t, "there", 1), "later-"+s.suffix
	e := s.entry("whiledown", topic, later).with("start: latest")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer(e.name, "read the one that exists", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && len(c.Partitions) == 1 && c.Partitions[0].CommittedOffset == 0
	})
	stopAgent(t, a)
	s.CreateTopic(t, later, 2)
	s.Produce(t, kafkatest.Load{Topic: later, Partitions: 2, Count: 100})
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitState(e.name, "RUNNING")
	s.waitCommitted(t, a, e, 200)
	for p := range int32(2) {
		readTrail(t, e.path).wantSeqs(t, key(later, p), upTo(100))
	}
}
