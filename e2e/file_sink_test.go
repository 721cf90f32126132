package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestUnusableFolderIsNamedUntilItIsRepaired: the consumer names what blocks its path,
// commits nothing, and continues once the path is free.
func TestUnusableFolderIsNamedUntilItIsRepaired(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "blocked", 2)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 1000})
	obstacle := filepath.Join(s.dir, "folder") // a file in place of a folder blocks root as well
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, safe := s.entry("blocked", topic).withPath(filepath.Join(obstacle, "out.log")), s.entry("safe", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, safe)})
	if c := a.WaitState("blocked", "ERROR"); !strings.Contains(c.Error(), obstacle) {
		t.Errorf("the error %q does not name %s", c.Error(), obstacle)
	}
	s.waitCommitted(t, a, safe, 2000)
	was := identify(t, a.Consumer("safe"))
	if n := s.committed(t, e); n != 0 {
		t.Errorf("%d records are committed that were not written", n)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	a.WaitState("blocked", "RUNNING")
	s.waitCommitted(t, a, e, 2000)
	readTrail(t, e.path).wantExact(t, topic, 2, 1000)
	wantSame(t, a, "safe", was)
}

// TestUnusableFileStopsItsPartitionsOnly: two of six files cannot be opened. The other
// partitions are read, without a rebalance, and the rest follows once the files can be
// opened.
func TestUnusableFileStopsItsPartitionsOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "badfiles", 6)
	e := s.entry("badfiles", topic).withPath(filepath.Join(s.dir, "badfiles-{partition}.log"))
	path := func(p int) string { return filepath.Join(s.dir, fmt.Sprintf("badfiles-%d.log", p)) }
	for _, p := range []int{1, 4} {
		if err := os.Mkdir(path(p), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 6, Count: 300})
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	c := a.WaitState(e.name, "ERROR")
	if !strings.Contains(c.Error(), path(1)) && !strings.Contains(c.Error(), path(4)) {
		t.Errorf("the error names no file: %s", c.Error())
	}
	c = a.WaitConsumer(e.name, "commit four partitions", func(c agenttest.Consumer) bool { return c.Committed() >= 4*300 })
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 6, First: 300, Count: 100})
	a.WaitConsumer(e.name, "commit four partitions again", func(c agenttest.Consumer) bool { return c.Committed() >= 4*400 })
	for _, p := range []int{1, 4} {
		if err := os.Remove(path(p)); err != nil {
			t.Fatal(err)
		}
	}
	s.waitCommitted(t, a, e, 6*400)
	after := a.WaitState(e.name, "RUNNING")
	if after.Generation != c.Generation || after.RebalancesTotal != 1 {
		t.Errorf("generation %d and %d rebalances, was generation %d", after.Generation, after.RebalancesTotal, c.Generation)
	}
	for p := range 6 {
		readTrail(t, path(p)).wantSeqs(t, key(topic, int32(p)), upTo(400))
	}
}

// TestFileHasOneWriter: a second agent waits until the first one releases the lock of the
// file.
func TestFileHasOneWriter(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "contended", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	e := s.entry("contended", topic)
	first := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, first, e, 100)
	// Another agent and group with the same file.
	other := e.withGroup(e.group + "-other")
	second := agenttest.Start(t, agenttest.Options{Config: s.config(other)})
	if c := second.WaitState("contended", "ERROR"); !strings.Contains(c.Error(), e.path) {
		t.Errorf("the error %q does not name %s", c.Error(), e.path)
	}
	readTrail(t, e.path).wantExact(t, topic, 1, 100)
	first.Kill() // which releases the lock
	s.waitCommitted(t, second, other, 100)
	if n := readTrail(t, e.path).len(); n != 200 {
		t.Errorf("the file holds %d records, want 100 of each agent", n)
	}
}

// TestStdoutHasRecordsOnly: every line of the standard output is a record.
func TestStdoutHasRecordsOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "shown", 2)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 500})
	out, err := os.Create(filepath.Join(s.dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	e := s.entry("shown", topic).withPath("").withFormat("json")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e), Stdout: out})
	s.waitCommitted(t, a, e, 1000)
	readTrail(t, out.Name()).wantExact(t, topic, 2, 500)
	stopAgent(t, a)
	readTrail(t, out.Name()).wantExact(t, topic, 2, 500)
}

// TestPlaceholdersSeparateFiles: a path with placeholders is one file for each partition.
func TestPlaceholdersSeparateFiles(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	one, two := s.newTopic(t, "place.one", 2), s.newTopic(t, "place.two", 1)
	e := s.entry("places", one, two).withPath(filepath.Join(s.dir, "{name}", "{topic}", "{partition}.log"))
	for topic, n := range map[string]int32{one: 2, two: 1} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: n, Count: 100})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 300)
	for _, part := range []struct {
		topic string
		n     int32
	}{{one, 0}, {one, 1}, {two, 0}} {
		path := filepath.Join(s.dir, "places", part.topic, fmt.Sprintf("%d.log", part.n))
		tr := readTrail(t, path)
		if tr.wantPrefix(t, key(part.topic, part.n)); tr.len() != 100 || len(tr) != 1 {
			t.Errorf("%s holds %d records of %d partitions, want 100 of its own", path, tr.len(), len(tr))
		}
	}
}
