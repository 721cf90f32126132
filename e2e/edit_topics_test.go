package e2e

import (
	"slices"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestTopicEditCostsOneRebalance: an edit of topics keeps the member, the file and all
// that was read.
func TestTopicEditCostsOneRebalance(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	first, other := l.subject.topics[0], l.newTopic(t, "other", 1)
	l.Produce(t, kafkatest.Load{Topic: other, Partitions: 1, Count: 500})
	was := identify(t, l.agent.Consumer("subject"))

	both := l.subject.withTopics(first, other)
	l.edit(t, both)
	l.produce(t)
	l.waitCommitted(t, l.agent, both, l.total()+500)
	was.generation++
	was.rebalances++
	wantSame(t, l.agent, "subject", was)
	tr := readTrail(t, l.subject.path)
	tr.wantExact(t, other, 1, 500)
	tr.wantExact(t, first, lifecyclePartitions, l.produced)

	atEdit := l.produced
	l.edit(t, l.subject.withTopics(other))
	l.Produce(t, kafkatest.Load{Topic: other, Partitions: 1, First: 500, Count: 500})
	l.produce(t)
	l.waitCommitted(t, l.agent, l.subject.withTopics(other), 1000)
	was.generation++
	was.rebalances++
	wantSame(t, l.agent, "subject", was)
	tr = readTrail(t, l.subject.path)
	tr.wantExact(t, other, 1, 1000)
	tr.wantExact(t, first, lifecyclePartitions, atEdit)
	if c := l.agent.Consumer("subject"); len(c.Partitions) != 1 || c.Partitions[0].Topic != other {
		t.Errorf("it holds %+v, want the one partition of %s", c.Partitions, other)
	}
}

// TestRegexFollowsTopics: the member reads a new topic from its first record and drops a
// deleted one, within a minute.
func TestRegexFollowsTopics(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	one := s.newTopic(t, "re-one", 2)
	s.newTopic(t, "other-re", 1)
	e := s.entry("subject").with("topics_regex: '^re-.*" + s.suffix + "$'")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitState("subject", "RUNNING")
	s.Produce(t, kafkatest.Load{Topic: one, Partitions: 2, Count: 100})
	s.waitCommitted(t, a, e.withTopics(one), 200)
	was := identify(t, a.Consumer("subject"))

	two := s.newTopic(t, "re-two", 1)
	s.Produce(t, kafkatest.Load{Topic: two, Partitions: 1, Count: 100})
	s.waitCommitted(t, a, e.withTopics(one, two), 300)
	now := identify(t, a.Consumer("subject"))
	if now.id != was.id || now.members != was.members || now.restarts != 0 {
		t.Errorf("after a new topic it is %+v, was %+v", now, was)
	}

	s.DeleteTopic(t, one)
	a.WaitConsumer("subject", "drop the deleted topic", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && slices.Equal(c.Topics, []string{two}) && len(c.Partitions) == 1
	})
	s.Produce(t, kafkatest.Load{Topic: two, Partitions: 1, First: 100, Count: 100})
	s.waitCommitted(t, a, e.withTopics(two), 200)
	tr := readTrail(t, e.path)
	tr.wantExact(t, one, 2, 100)
	tr.wantExact(t, two, 1, 200)
	if now := a.Consumer("subject"); now.ID != was.id {
		t.Errorf("after a deleted topic it is %+v", now)
	}
}
