package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/wait"
)

// held lists the partitions of a replica once it runs with n of them.
func held(t *testing.T, a *agenttest.Agent, n int) (ids []int32) {
	t.Helper()
	c := a.WaitConsumer("shared", fmt.Sprintf("hold %d partitions", n), func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == n
	})
	for _, p := range c.Partitions {
		ids = append(ids, p.Partition)
	}
	return ids
}

// TestReplicas: agents with the same file share a group. One that joins takes no
// more than its share from the others, and those swap nothing; one that leaves
// repeats nothing; after kill -9 another holds all within the session timeout, and
// what was not committed just before it is all that is repeated.
func TestReplicas(t *testing.T) {
	t.Parallel()
	const partitions = 8
	s := newScene(t)
	topic := s.topic(t, "shared", partitions)
	var entries []entry
	var agents []*agenttest.Agent
	join := func() *agenttest.Agent {
		t.Helper()
		e := s.entry("shared", topic).withPath(filepath.Join(s.dir, fmt.Sprintf("replica-%d.log", len(agents))))
		entries, agents = append(entries, e), append(agents, agenttest.Start(t, agenttest.Options{Config: s.file(e)}))
		return agents[len(agents)-1]
	}
	halt, produced := s.keepProducingEvery(t, 50*time.Millisecond, topic, partitions)
	one := join()
	held(t, one, 8)
	two := join()
	first, second := held(t, one, 4), held(t, two, 4)
	third := join()
	took := held(t, third, 2)
	for a, before := range map[*agenttest.Agent][]int32{one: first, two: second} {
		now := held(t, a, 3)
		if slices.ContainsFunc(now, func(id int32) bool { return !slices.Contains(before, id) }) {
			t.Errorf("a partition moved between members that stayed: %v is now %v, the new one took %v", before, now, took)
		}
	}
	stop(t, third)
	held(t, one, 4)
	held(t, two, 4)

	second = held(t, two, 4)
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
	held(t, one, 8)
	t.Logf("the other held all after %v", time.Since(began).Round(time.Second))
	halt()
	s.waitCommitted(t, one, entries[0], int64(partitions*produced()))
	one.Signal(os.Interrupt)
	one.WaitExit(wait.Timeout)
	tr := follow(t, entries[0].path, entries[1].path, entries[2].path).sorted()
	repeats := 0
	for p := range int32(partitions) {
		seqs := tr[key(topic, p)]
		for i := 1; i < len(seqs); i++ {
			if seqs[i] == seqs[i-1] {
				if repeats++; int64(seqs[i]) < committed[p] {
					t.Errorf("record %d of partition %d is there twice, and %d was committed", seqs[i], p, committed[p])
				}
			}
		}
		if once := slices.Compact(seqs); len(once) != produced() || once[len(once)-1] != produced()-1 {
			t.Errorf("%d records of partition %d are there, %d were produced", len(once), p, produced())
		}
	}
	t.Logf("%d of %d records are there twice", repeats, partitions*produced())
}
