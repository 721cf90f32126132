package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestSignalFlushesAndCommits: SIGTERM and SIGINT flush and commit what every consumer has
// read, and leave no member in a group.
func TestSignalFlushesAndCommits(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			const partitions, each = 2, 100_000
			s := newScene(t)
			small, big := s.newTopic(t, "small", partitions), s.newTopic(t, "big", partitions)
			// One consumer has read everything and flushed nothing, one is reading, one is
			// paused and one is stopped.
			idle, busy := s.entry("idle", small).withFlush(flushNever), s.entry("busy", big).withFlush(flushNever)
			paused, stopped := s.entry("paused", small).withState("paused"), s.entry("stopped", small).withState("stopped")
			s.Produce(t, kafkatest.Load{Topic: small, Partitions: partitions, Count: 500})
			a := agenttest.Start(t, agenttest.Options{Config: s.config(idle, busy, paused, stopped)})
			a.WaitConsumer("idle", "read everything", func(c agenttest.Consumer) bool { return c.RecordsTotal == partitions*500 })
			a.WaitState("busy", "RUNNING")
			a.WaitState("paused", "PAUSED")
			if n := s.committed(t, idle); n != 0 {
				t.Fatalf("%d records are committed before the signal", n)
			}
			s.Produce(t, kafkatest.Load{Topic: big, Partitions: partitions, Count: each})
			a.Signal(sig) // while the last records arrive
			if code := a.WaitExit(30 * time.Second); code != 0 {
				t.Fatalf("exit code %d, want 0", code)
			}
			readTrail(t, idle.path).wantExact(t, small, partitions, 500)
			if n := s.committed(t, idle); n != partitions*500 {
				t.Errorf("idle: %d records are committed, want %d", n, partitions*500)
			}
			tr, committed := readTrail(t, busy.path), s.Committed(t, busy.group, big)
			for p := range int32(partitions) {
				tr.wantPrefix(t, key(big, p))
				if n := int64(len(tr[key(big, p)])); committed[p] != n {
					t.Errorf("busy: committed %d of partition %d, the file holds %d", committed[p], p, n)
				}
			}
			for _, e := range []entry{idle, busy, paused} {
				if g := s.Group(t, e.group); len(g.Members) != 0 {
					t.Errorf("%s left member %v in its group", e.name, g.Members)
				}
			}
		})
	}
}

// startStuck starts an agent with a consumer that cannot stop: its standard output is a
// full pipe. Reading from reader, or closing it, lets the consumer continue.
func startStuck(t *testing.T, s *scene, args ...string) (a *agenttest.Agent, e entry, reader *os.File) {
	t.Helper()
	topic := s.newTopic(t, "stuck", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 20_000})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	defer writer.Close()
	e = s.entry("stuck", topic).withPath("")
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e, s.entry("free", topic)), Stdout: writer, Args: args})
	s.waitCommitted(t, a, s.entry("free", topic), 20_000)
	wait.For(t, wait.Timeout, "the pipe to be full", func() error {
		if n := pipeFill(t, reader); n < 32<<10 {
			return fmt.Errorf("it holds %d bytes", n)
		}
		return nil
	})
	return a, e, reader
}

// TestSecondSignalEndsAtOnce: a second SIGTERM does not wait for --shutdown-timeout.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	a, _, _ := startStuck(t, newScene(t), "--shutdown-timeout", "10m")
	a.Signal(syscall.SIGTERM)
	a.WaitState("stuck", "STOPPING")
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(15 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

// TestShutdownTimeoutEndsTheAgent: after --shutdown-timeout the agent ends with exit code
// 1. A consumer that cannot stop has not committed what it did not write.
func TestShutdownTimeoutEndsTheAgent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a, e, _ := startStuck(t, s, "--shutdown-timeout", "1s")
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(30 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if n := s.committed(t, e); n >= 20_000 {
		t.Errorf("%d records are committed, most of which were not written", n)
	}
	if free := s.entry("free", e.topics...); s.committed(t, free) != 20_000 {
		t.Error("the other consumer did not commit")
	}
}

// TestZombieIsShownAndDelaysNoOtherConsumer: a consumer that was removed and cannot stop
// is shown as a zombie until its goroutines end.
func TestZombieIsShownAndDelaysNoOtherConsumer(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a, e, reader := startStuck(t, s)
	free := s.entry("free", e.topics...)
	was := identify(t, a.Consumer("free"))

	a.Write(s.config(free)) // removes the consumer that cannot stop
	wait.For(t, wait.Timeout, "the zombie to be shown", func() error {
		th := a.Threads()
		if len(th.Zombies) != 1 {
			return fmt.Errorf("zombies are %+v", th.Zombies)
		}
		if z := th.Zombies[0]; z.Consumer != "stuck" || z.Goroutines < 1 || len(z.Functions) == 0 || z.Since.IsZero() {
			t.Fatalf("the zombie is shown as %+v", z)
		}
		return nil
	})
	waitZombieMetric(t, a, func(n float64) bool { return n >= 1 })
	if ended, ok := a.Status().Ended("stuck"); !ok || ended.Clean {
		t.Errorf("terminated: %+v (%v), want an unclean end", ended, ok)
	}
	// Other consumers read, and edits are applied.
	s.Produce(t, kafkatest.Load{Topic: e.topics[0], Partitions: 1, First: 20_000, Count: 100})
	s.waitCommitted(t, a, free, 20_100)
	wantSame(t, a, "free", was)
	newcomer := s.entry("newcomer", e.topics...)
	a.Apply(s.config(free, newcomer))
	s.waitCommitted(t, a, newcomer, 20_100)

	drained := make(chan error, 1)
	go func() { drained <- drain(reader) }()
	wait.For(t, wait.Timeout, "the zombie to end", func() error {
		if z := a.Threads().Zombies; len(z) > 0 {
			return fmt.Errorf("zombies are %+v", z)
		}
		return nil
	})
	waitZombieMetric(t, a, func(n float64) bool { return n == 0 })
	a.Kill()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// waitZombieMetric waits for kcagent_zombie_goroutines, which the agent updates every few
// seconds only.
func waitZombieMetric(t *testing.T, a *agenttest.Agent, ok func(float64) bool) {
	t.Helper()
	wait.For(t, wait.Timeout, "the metric of zombies", func() error {
		n, is := a.Metrics().Value("kcagent_zombie_goroutines")
		if !is || !ok(n) {
			return fmt.Errorf("it is %v (%v)", n, is)
		}
		return nil
	})
}

// drain reads a pipe until its writer or its reader is closed.
func drain(reader *os.File) error {
	var sink bytes.Buffer
	_, err := sink.ReadFrom(reader)
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
