package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

func TestBlockedPath(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "blocked", 2)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 1000})
	obstacle := filepath.Join(s.dir, "folder") // a file where a folder should be stops root, too
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, safe := s.entry("blocked", topic).withPath(filepath.Join(obstacle, "out.log")), s.entry("safe", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e, safe)})
	if c := a.WaitState("blocked", "ERROR"); !strings.Contains(c.Error(), obstacle) {
		t.Errorf("the error %q does not name %s", c.Error(), obstacle)
	}
	s.waitCommitted(t, a, safe, 2000)
	was := identify(t, a.Consumer("safe"))
	if n := s.committed(t, e); n != 0 {
		t.Errorf("%d records are committed that were never written", n)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	a.WaitState("blocked", "RUNNING")
	s.waitCommitted(t, a, e, 2000)
	follow(t, e.path).wantExact(t, topic, 2, 1000)
	wantSame(t, a, "safe", was)
}

func TestOneWriterOfAFile(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "contended", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	e := s.entry("contended", topic)
	first := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, first, e, 100)
	// Another agent, another group, the same file.
	other := e.withGroup(e.group + "-other")
	second := agenttest.Start(t, agenttest.Options{Config: s.file(other)})
	if c := second.WaitState("contended", "ERROR"); !strings.Contains(c.Error(), e.path) {
		t.Errorf("the error %q does not name %s", c.Error(), e.path)
	}
	follow(t, e.path).wantExact(t, topic, 1, 100)
	first.Kill() // its lock goes with it
	s.waitCommitted(t, second, other, 100)
	if n := follow(t, e.path).len(); n != 200 {
		t.Errorf("the file holds %d records, want 100 of each agent", n)
	}
}

func TestStdout(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "shown", 2)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 500})
	out, err := os.Create(filepath.Join(s.dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	e := s.entry("shown", topic).withPath("").withFormat("json")
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e), Stdout: out})
	s.waitCommitted(t, a, e, 1000)
	follow(t, out.Name()).wantExact(t, topic, 2, 500) // and nothing else: every line is a record
	a.Signal(os.Interrupt)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	follow(t, out.Name()).wantExact(t, topic, 2, 500)
}

func TestPlaceholdersInThePath(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	one, two := s.topic(t, "place.one", 2), s.topic(t, "place.two", 1)
	e := s.entry("places", one, two).withPath(filepath.Join(s.dir, "{name}", "{topic}", "{partition}.log"))
	for topic, n := range map[string]int32{one: 2, two: 1} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: n, Count: 100})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, 300)
	for _, part := range []struct {
		topic string
		n     int32
	}{{one, 0}, {one, 1}, {two, 0}} {
		path := filepath.Join(s.dir, "places", part.topic, fmt.Sprintf("%d.log", part.n))
		tr := follow(t, path)
		if tr.wantRun(t, key(part.topic, part.n)); tr.len() != 100 || len(tr) != 1 {
			t.Errorf("%s holds %d records of %d partitions, want 100 of its own", path, tr.len(), len(tr))
		}
	}
}

// drain reads a pipe until its writer is gone or it is closed.
func drain(reader *os.File) error {
	var sink bytes.Buffer
	_, err := sink.ReadFrom(reader)
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
