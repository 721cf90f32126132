package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// held lists the partitions of a replica once it runs with n of them.
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

// TestAgentsOfOneGroupMoveFewPartitions: agents with the same file share a group. One that joins takes no
// more than its share from the others, and those swap nothing; one that leaves
// repeats nothing; after kill -9 another holds all within the session timeout, and
// what was not committed just before it is all that is repeated.
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
		entries, agents = append(entries, e), append(agents, agenttest.Start(t, agenttest.Options{Config: s.config(e)}))
		return agents[len(agents)-1]
	}
	halt, produced := s.keepProducingEvery(t, 50*time.Millisecond, topic, partitions)
	one := join()
	waitPartitions(t, one, 8)
	two := join()
	first, second := waitPartitions(t, one, 4), waitPartitions(t, two, 4)
	third := join()
	took := waitPartitions(t, third, 2)
	for a, before := range map[*agenttest.Agent][]int32{one: first, two: second} {
		now := waitPartitions(t, a, 3)
		if slices.ContainsFunc(now, func(id int32) bool { return !slices.Contains(before, id) }) {
			t.Errorf("a partition moved between members that stayed: %v is now %v, the new one took %v", before, now, took)
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
	t.Logf("the other held all after %v", time.Since(began).Round(time.Second))
	halt()
	s.waitCommitted(t, one, entries[0], int64(partitions*produced()))
	one.Signal(os.Interrupt)
	one.WaitExit(wait.Timeout)
	tr := readTrail(t, entries[0].path, entries[1].path, entries[2].path).sorted()
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

// TestRebalancesRepeatNothing: members come and go under load, and each record
// is in one of their files, once.
func TestRebalancesRepeatNothing(t *testing.T) {
	t.Parallel()
	const partitions = 6
	s := newScene(t)
	topic := s.newTopic(t, "rebalanced", partitions)
	here := s.entry("rebalanced", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	made := 0
	feed := func() error {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: made, Count: 100})
		made += 100
		return nil
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(here)})
	a.WaitState(here.name, "RUNNING")
	for range 3 {
		b := agenttest.Start(t, agenttest.Options{Config: s.config(there)})
		wait.For(t, wait.Timeout, "both to take part", func() error {
			mine := a.Consumer(here.name)
			other, _ := b.Status().Consumer(there.name) // none at first
			if len(mine.Partitions) != partitions/2 || other.RecordsTotal == 0 {
				return errors.Join(feed(), fmt.Errorf("%d partitions here, %d records there", len(mine.Partitions), other.RecordsTotal))
			}
			return feed()
		})
		b.Signal(os.Interrupt)
		wait.For(t, wait.Timeout, "all to come back", func() error {
			if n := len(a.Consumer(here.name).Partitions); n != partitions {
				return errors.Join(feed(), fmt.Errorf("%d partitions have", n))
			}
			return feed()
		})
		if code := b.WaitExit(wait.Timeout); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}
	wait.For(t, wait.Timeout, "all to be committed", func() error {
		if n := s.committed(t, here); n != int64(partitions*made) {
			return fmt.Errorf("%d records of %d are", n, partitions*made)
		}
		return nil
	})
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
		if !slices.Equal(seqs, upTo(made)) {
			t.Errorf("partition %d: %d records, want each of %d once", p, len(seqs), made)
		}
	}
}
