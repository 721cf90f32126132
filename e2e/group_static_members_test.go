package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// waitGeneration waits until a consumer runs with this many partitions and returns its
// generation.
func waitGeneration(a *agenttest.Agent, name string, partitions int) int32 {
	return a.WaitConsumer(name, fmt.Sprintf("run with %d partitions", partitions), func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == partitions
	}).Generation
}

// TestStaticMemberRestartCausesNoRebalance restarts agents one after the other, cleanly
// and by kill -9. The generation stays, and every record is in one file, once.
func TestStaticMemberRestartCausesNoRebalance(t *testing.T) {
	t.Parallel()
	const agents, each = 3, 2
	s := newScene(t)
	topic := s.newTopic(t, "static", agents*each)
	var entries [agents]entry
	var as [agents]*agenttest.Agent
	for i := range entries {
		id := fmt.Sprintf("host-%d", i)
		entries[i] = s.entry("static", topic).static(id).withPath(filepath.Join(s.dir, id+".log"))
		as[i] = agenttest.Start(t, agenttest.Options{Config: s.config(entries[i])})
	}
	stop, produced := s.keepProducing(t, topic, agents*each)
	generation := waitGeneration(as[0], "static", each)
	for i, a := range as {
		if g := waitGeneration(a, "static", each); g != generation {
			t.Fatalf("agent %d is in generation %d, agent 0 in %d", i, g, generation)
		}
	}
	for i := range as {
		if i == 1 {
			as[i].Kill()
		} else {
			stopAgent(t, as[i])
		}
		as[i] = agenttest.Start(t, agenttest.Options{Path: as[i].Path})
		if g := waitGeneration(as[i], "static", each); g != generation {
			t.Errorf("the restart of agent %d changed generation %d to %d", i, generation, g)
		}
	}
	stop()
	s.waitGroupCommitted(t, entries[0], int64(agents*each*produced()))
	readTrail(t, entries[0].path, entries[1].path, entries[2].path).sorted().wantExact(t, topic, agents*each, produced())
	for i, a := range as {
		if g := waitGeneration(a, "static", each); g != generation {
			t.Errorf("agent %d is in generation %d in the end, was in %d", i, g, generation)
		}
	}
}

// TestStaticMemberLeavesWithItsConsumer: a static member leaves the group when its
// consumer is stopped or removed, unlike at the end of the agent.
func TestStaticMemberLeavesWithItsConsumer(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "stopped")
	e := l.subject.static("host-1").withState("running")
	l.edit(t, e)
	l.waitCommitted(t, l.agent, e, l.total())
	id := l.agent.Consumer("subject").ID
	l.edit(t, e.with("isolation: read_uncommitted"))
	l.produce(t)
	l.waitCommitted(t, l.agent, e, l.total())
	if now := l.agent.Consumer("subject"); now.ID == id {
		t.Errorf("the consumer was not replaced: %+v", now)
	}
	l.edit(t, e.withState("stopped"))
	l.agent.WaitState("subject", "CREATED")
	l.wantEmptyGroup(t)
	l.edit(t, e)
	l.produce(t)
	l.waitCommitted(t, l.agent, e, l.total())
	l.edit(t)
	l.agent.WaitStatus("the end", func(s agenttest.Status) bool { _, ok := s.Ended("subject"); return ok && s.Config.State == "synced" })
	l.wantEmptyGroup(t)
	l.wantFile(t, l.produced)
}

// TestEndedStaticMemberKeepsItsPartitions: the partitions of a static member whose agent has
// ended have no other reader until session_timeout, or until an operator removes the member.
// The others then take them over and repeat nothing.
func TestEndedStaticMemberKeepsItsPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "kept", 4)
	start := func(id string) (entry, *agenttest.Agent) {
		e := s.entry("kept", topic).static(id).withPath(filepath.Join(s.dir, id+".log"))
		text := strings.Replace(s.config(e), "  main: {", "  main: {session_timeout: 10m, ", 1) // longer than the test
		return e, agenttest.Start(t, agenttest.Options{Config: text})
	}
	here, stays := start("host-1")
	there, ends := start("host-2")
	generation := waitGeneration(stays, "kept", 2)
	waitGeneration(ends, "kept", 2)
	f := s.newFeed(topic, 4)
	f.produce(t, 100)
	s.waitGroupCommitted(t, here, 400)

	stopAgent(t, ends)
	f.produce(t, 100)
	s.waitGroupCommitted(t, here, 600) // of its own two partitions
	if g := waitGeneration(stays, "kept", 2); g != generation {
		t.Errorf("the end of an agent changed generation %d to %d", generation, g)
	}
	s.RemoveStatic(t, here.group, "host-2")
	waitGeneration(stays, "kept", 4)
	s.waitGroupCommitted(t, here, 800)
	readTrail(t, here.path, there.path).sorted().wantExact(t, topic, 4, 200)
}

// TestReplacedStaticMemberReportsAndWaits: if a second agent joins with the same
// instance_id, the first one reports it and waits. It does not take the membership back.
func TestReplacedStaticMemberReportsAndWaits(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "name", 1)
	e := s.entry("named", topic).static("host-1")
	first := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	waitGeneration(first, "named", 1)
	other := e.withPath(filepath.Join(s.dir, "other.log"))
	second := agenttest.Start(t, agenttest.Options{Config: s.config(other)})
	waitGeneration(second, "named", 1)
	was := identify(t, second.Consumer("named"))
	first.WaitConsumer("named", "report the other agent", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), "instance_id host-1") && strings.Contains(c.Error(), "kcagent/named at ")
	})
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 500})
	s.waitCommitted(t, second, other, 500)
	wantSame(t, second, "named", was)
	third := agenttest.Start(t, agenttest.Options{Config: s.config(e.withPath(filepath.Join(s.dir, "third.log")))})
	waitGeneration(third, "named", 1)
	second.WaitState("named", "ERROR")
	stopAgent(t, second)           // it waits for its instance_id
	third.Apply("consumers: []\n") // leaves
	waitGeneration(first, "named", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 500, Count: 500})
	s.waitCommitted(t, first, e, 1000)
	readTrail(t, other.path, e.path).sorted().wantExact(t, topic, 1, 1000)
}

// TestStaticMemberReadsTopicsOfItsConfigOnly: a static member that returns within its
// session is assigned what it had before, even if the file has other topics by then or a
// topic was deleted. It reads the topics of the file.
func TestStaticMemberReadsTopicsOfItsConfigOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	one, two, brief := s.newTopic(t, "one", 1), s.newTopic(t, "two", 1), s.newTopic(t, "brief", 1)
	static := func(name string, topics ...string) entry { return s.entry(name, topics...).static("host-1") }
	pattern := func(of string) entry {
		return static("pattern").with(fmt.Sprintf("topics_regex: '^(%s)-%s$'", of, s.suffix))
	}
	before := []entry{static("narrowed", one, two), static("swapped", one), pattern("one|brief")}
	after := []entry{static("narrowed", one), static("swapped", two), pattern("one|brief")}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(before...)})
	for i, n := range []int{2, 1, 2} {
		waitGeneration(a, before[i].name, n)
	}
	stopAgent(t, a)
	for _, topic := range []string{one, two} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	}
	s.DeleteTopic(t, brief)
	a = agenttest.Start(t, agenttest.Options{Path: a.Path, Config: s.config(after...)})
	for i, topic := range []string{one, two, one} {
		s.waitCommitted(t, a, after[i].withTopics(topic), 100)
		waitGeneration(a, after[i].name, 1)
		tr := readTrail(t, after[i].path)
		tr.wantExact(t, topic, 1, 100)
		if len(tr) != 1 {
			t.Errorf("%s has read %d partitions", after[i].name, len(tr))
		}
	}
}

// TestStaticLeaderAssignsAddedPartitions: partitions that were added while a static member
// was away are assigned to no member until the leader looks at the metadata (KAFKA-13435).
func TestStaticLeaderAssignsAddedPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "grown", 1)
	e := s.entry("static", topic).static("host-1")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	waitGeneration(a, "static", 1)
	stopAgent(t, a)
	s.AddPartitions(t, topic, 3)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 3, Count: 100})
	a = agenttest.Start(t, agenttest.Options{Path: a.Path})
	s.waitCommitted(t, a, e, 300)
	readTrail(t, e.path).wantExact(t, topic, 3, 100)
}
