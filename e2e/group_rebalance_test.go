package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/wait"
)

// waitPartitions waits until an agent runs with n partitions and returns their numbers.
func waitPartitions(t *testing.T, a *agenttest.Agent, n int) (ids []int32) {
	t.Helper()
	c := a.WaitConsumer("shared", fmt.Sprintf("hold %d partitions", n), func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == n
	})
	for _, p := range c.Partitions {
		ids = append(ids, p.Partition)
	}
	return ids
}

// TestAgentsOfOneGroupMoveFewPartitions: an agent that joins takes its share from the
// others, between which no partition moves. An agent that stops repeats nothing. After
// kill -9 the others take over within the session timeout, and repeat only what was not
// committed before.
func TestAgentsOfOneGroupMoveFewPartitions(t *testing.T) {
	t.Parallel()
	const partitions = 8
	s := newScene(t)
	topic := s.newTopic(t, "shared", partitions)
	var entries []entry
	var agents []*agenttest.Agent
	join := func() *agenttest.Agent {
		t.Helper()
		e := s.entry("shared", topic).withPath(filepath.Join(s.dir, fmt.Sprintf("replica-%d.log", len(agents))))
		config := strings.Replace(s.config(e), "  main: {", "  main: {session_timeout: 15s, ", 1)
		entries, agents = append(entries, e), append(agents, agenttest.Start(t, agenttest.Options{Config: config}))
		return agents[len(agents)-1]
	}
	halt, produced := s.keepProducingEvery(t, 50*time.Millisecond, topic, partitions)
	one := join()
	waitPartitions(t, one, 8)
	two := join()
	first, second := waitPartitions(t, one, 4), waitPartitions(t, two, 4)
	third := join()
	moved := waitPartitions(t, third, 2)
	for a, before := range map[*agenttest.Agent][]int32{one: first, two: second} {
		now := waitPartitions(t, a, 3)
		if slices.ContainsFunc(now, func(id int32) bool { return !slices.Contains(before, id) }) {
			t.Errorf("a partition moved between members that stayed: %v is now %v, the new member has %v", before, now, moved)
		}
	}
	stopAgent(t, third)
	waitPartitions(t, one, 4)
	waitPartitions(t, two, 4)

	second = waitPartitions(t, two, 4)
	committed := s.Committed(t, entries[1].group, topic)
	wait.For(t, wait.Timeout, "one more commit", func() error {
		was := committed[second[0]]
		if committed = s.Committed(t, entries[1].group, topic); committed[second[0]] == was {
			return fmt.Errorf("still %d", was)
		}
		return nil
	})
	two.Kill()
	began := time.Now()
	waitPartitions(t, one, 8)
	t.Logf("the other agent had all partitions after %v", time.Since(began).Round(time.Second))
	halt()
	s.waitCommitted(t, one, entries[0], int64(partitions*produced()))
	stopAgent(t, one)
	tr := readTrail(t, entries[0].path, entries[1].path, entries[2].path).sorted()
	repeats := 0
	for p := range int32(partitions) {
		seqs := tr[key(topic, p)]
		for i := 1; i < len(seqs); i++ {
			if seqs[i] == seqs[i-1] {
				if repeats++; int64(seqs[i]) < committed[p] {
					t.Errorf("record %d of partition %d is repeated, although %d was committed", seqs[i], p, committed[p])
				}
			}
		}
		if once := slices.Compact(seqs); len(once) != produced() || once[len(once)-1] != produced()-1 {
			t.Errorf("%d records of partition %d, %d were produced", len(once), p, produced())
		}
	}
	t.Logf("%d of %d records are repeated", repeats, partitions*produced())
}

// TestRebalancesRepeatNothing: members join and leave while records arrive, and each
// record is in one of their files, once.
func TestRebalancesRepeatNothing(t *testing.T) {
	t.Parallel()
	const partitions = 6
	s := newScene(t)
	topic := s.newTopic(t, "rebalanced", partitions)
	here := s.entry("rebalanced", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	f := s.newFeed(topic, partitions)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(here)})
	a.WaitState(here.name, "RUNNING")
	for range 3 {
		b := agenttest.Start(t, agenttest.Options{Config: s.config(there)})
		wait.For(t, wait.Timeout, "both to read", func() error {
			f.produce(t, 100)
			mine := a.Consumer(here.name)
			other, _ := b.Status().Consumer(there.name) // none at first
			if len(mine.Partitions) != partitions/2 || other.RecordsTotal == 0 {
				return fmt.Errorf("%d partitions here, %d records there", len(mine.Partitions), other.RecordsTotal)
			}
			f.produce(t, 100)
			return nil
		})
		b.Signal(os.Interrupt)
		wait.For(t, wait.Timeout, "all partitions to return", func() error {
			f.produce(t, 100)
			if n := len(a.Consumer(here.name).Partitions); n != partitions {
				return fmt.Errorf("%d partitions have", n)
			}
			f.produce(t, 100)
			return nil
		})
		if code := b.WaitExit(wait.Timeout); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}
	s.waitGroupCommitted(t, here, f.total())
	stopAgent(t, a)
	count := make(map[string][]int)
	for _, path := range []string{here.path, there.path} {
		for p, seqs := range readTrail(t, path) {
			if !slices.IsSorted(seqs) {
				t.Errorf("%s is out of order in %s", p, path)
			}
			count[p] = append(count[p], seqs...)
		}
	}
	for p := range int32(partitions) {
		seqs := count[key(topic, p)]
		slices.Sort(seqs)
		if !slices.Equal(seqs, upTo(f.produced)) {
			t.Errorf("partition %d: %d records, want each of %d once", p, len(seqs), f.produced)
		}
	}
}
