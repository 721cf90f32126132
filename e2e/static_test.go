package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// static is an entry that is a static member.
func (e entry) static(id string) entry { return e.with("instance_id: " + id) }

// generationOf waits until a consumer runs with this many partitions.
func generationOf(a *agenttest.Agent, name string, partitions int) int32 {
	return a.WaitConsumer(name, fmt.Sprintf("run with %d partitions", partitions), func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == partitions
	}).Generation
}

// TestStaticMembersRestart: agents that restart one after the other, in good order
// or not, cause no rebalance, and every record is there once.
func TestStaticMembersRestart(t *testing.T) {
	t.Parallel()
	const agents, each = 3, 2
	s := newScene(t)
	topic := s.topic(t, "static", agents*each)
	var entries [agents]entry
	var as [agents]*agenttest.Agent
	for i := range entries {
		id := fmt.Sprintf("host-%d", i)
		entries[i] = s.entry("static", topic).static(id).withPath(filepath.Join(s.dir, id+".log"))
		as[i] = agenttest.Start(t, agenttest.Options{Config: s.file(entries[i])})
	}
	stop, produced := s.keepProducing(t, topic, agents*each)
	generation := generationOf(as[0], "static", each)
	for i, a := range as {
		if g := generationOf(a, "static", each); g != generation {
			t.Fatalf("agent %d is in generation %d, agent 0 in %d", i, g, generation)
		}
	}
	for i := range as {
		if i == 1 {
			as[i].Kill()
		} else {
			as[i].Signal(os.Interrupt)
			if code := as[i].WaitExit(wait.Timeout); code != 0 {
				t.Errorf("agent %d ended with exit code %d", i, code)
			}
		}
		as[i] = agenttest.Start(t, agenttest.Options{Path: as[i].Path})
		if g := generationOf(as[i], "static", each); g != generation {
			t.Errorf("the restart of agent %d led from generation %d to %d", i, generation, g)
		}
	}
	stop()
	want := int64(agents * each * produced())
	wait.For(t, wait.Timeout, "everything to be committed", func() error {
		if n := s.committed(t, entries[0]); n != want {
			return fmt.Errorf("%d of %d are", n, want)
		}
		return nil
	})
	follow(t, entries[0].path, entries[1].path, entries[2].path).sorted().wantExact(t, topic, agents*each, produced())
	for i, a := range as {
		if g := generationOf(a, "static", each); g != generation {
			t.Errorf("agent %d is in generation %d in the end, was in %d", i, g, generation)
		}
	}
}

// TestStaticMemberLeaves: the end of a consumer, unlike that of the agent, leaves
// the group.
func TestStaticMemberLeaves(t *testing.T) {
	t.Parallel()
	l := newLife(t, "stopped")
	e := l.subject.static("host-1").withState("running")
	l.edit(t, e)
	l.waitCommitted(t, l.agent, e, l.total())
	id := l.agent.Consumer("subject").ID
	l.edit(t, e.with("isolation: read_uncommitted"))
	l.more(t)
	l.waitCommitted(t, l.agent, e, l.total())
	if now := l.agent.Consumer("subject"); now.ID == id {
		t.Errorf("it was not replaced: %+v", now)
	}
	l.edit(t, e.withState("stopped"))
	l.agent.WaitState("subject", "CREATED")
	l.wantEmptyGroup(t)
	l.edit(t, e)
	l.more(t)
	l.waitCommitted(t, l.agent, e, l.total())
	l.edit(t)
	l.agent.WaitStatus("the end", func(s agenttest.Status) bool { _, ok := s.Ended("subject"); return ok && s.Config.State == "synced" })
	l.wantEmptyGroup(t)
	l.wantFile(t, l.produced)
}

// TestTwoAgentsOfOneName: the one that came first says so and waits; it does not
// take the name back while the other one has it.
func TestTwoAgentsOfOneName(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "name", 1)
	e := s.entry("named", topic).static("host-1")
	first := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	generationOf(first, "named", 1)
	other := e.withPath(filepath.Join(s.dir, "other.log"))
	second := agenttest.Start(t, agenttest.Options{Config: s.file(other)})
	generationOf(second, "named", 1)
	was := identify(t, second.Consumer("named"))
	first.WaitConsumer("named", "tell of the other one", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), "instance_id host-1") && strings.Contains(c.Error(), "kcagent/named at ")
	})
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 500})
	s.waitCommitted(t, second, other, 500)
	wantSame(t, second, "named", was)
	third := agenttest.Start(t, agenttest.Options{Config: s.file(e.withPath(filepath.Join(s.dir, "third.log")))})
	generationOf(third, "named", 1)
	second.WaitState("named", "ERROR")
	second.Signal(os.Interrupt)
	if code := second.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("one that waited for its name ended with exit code %d", code)
	}
	third.Apply("consumers: []\n") // leaves
	generationOf(first, "named", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 500, Count: 500})
	s.waitCommitted(t, first, e, 1000)
	follow(t, other.path, e.path).sorted().wantExact(t, topic, 1, 1000)
}

// TestStaticMemberOfOtherTopics: a static member that comes back within its session
// is given what it had before, be it that the file names other topics by now or that a
// topic is gone. It reads what the file says.
func TestStaticMemberOfOtherTopics(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	one, two, brief := s.topic(t, "one", 1), s.topic(t, "two", 1), s.topic(t, "brief", 1)
	static := func(name string, topics ...string) entry { return s.entry(name, topics...).static("host-1") }
	pattern := func(of string) entry {
		return static("pattern").with(fmt.Sprintf("topics_regex: '^(%s)-%s$'", of, s.suffix))
	}
	before := []entry{static("narrowed", one, two), static("swapped", one), pattern("one|brief")}
	after := []entry{static("narrowed", one), static("swapped", two), pattern("one|brief")}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(before...)})
	for i, n := range []int{2, 1, 2} {
		generationOf(a, before[i].name, n)
	}
	stop(t, a)
	for _, topic := range []string{one, two} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	}
	s.DeleteTopic(t, brief)
	a = agenttest.Start(t, agenttest.Options{Path: a.Path, Config: s.file(after...)})
	for i, topic := range []string{one, two, one} {
		s.waitCommitted(t, a, after[i].withTopics(topic), 100)
		generationOf(a, after[i].name, 1)
		tr := follow(t, after[i].path)
		tr.wantExact(t, topic, 1, 100)
		if len(tr) != 1 {
			t.Errorf("%s has read %d partitions", after[i].name, len(tr))
		}
	}
}

// TestStaticLeaderNoticesPartitions: partitions that came while a static member
// was away belong to nobody until somebody looks (KAFKA-13435).
func TestStaticLeaderNoticesPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "grown", 1)
	e := s.entry("static", topic).static("host-1")
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	generationOf(a, "static", 1)
	a.Signal(os.Interrupt)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("the agent ended with exit code %d", code)
	}
	s.AddPartitions(t, topic, 3)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 3, Count: 100})
	a = agenttest.Start(t, agenttest.Options{Path: a.Path})
	s.waitCommitted(t, a, e, 300)
	follow(t, e.path).wantExact(t, topic, 3, 100)
}
