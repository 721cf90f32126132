package e2e

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

func TestTwoTopicsArriveCompletelyAndInOrder(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 50_000
	s := newScene(t)
	one, two := s.topic(t, "one", partitions), s.topic(t, "two", partitions)
	asJSON, asRaw := s.entry("as-json", one).withFormat("json"), s.entry("as-raw", two)
	for _, topic := range []string{one, two} { // half of it waits, half of it comes
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, Count: each / 2})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(asJSON, asRaw)})
	for _, topic := range []string{one, two} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: each / 2, Count: each / 2})
	}
	for _, e := range []entry{asJSON, asRaw} {
		s.waitCommitted(t, a, e, partitions*each)
		follow(t, e.path).wantExact(t, e.topics[0], partitions, each)
		for p, end := range s.EndOffsets(t, e.topics[0]) {
			if got := s.Committed(t, e.group, e.topics[0])[p]; got != end {
				t.Errorf("%s/%d: committed %d, the log ends at %d", e.topics[0], p, got, end)
			}
		}
		c := a.Consumer(e.name)
		if c.RecordsTotal != partitions*each || c.LastRecordAt == nil || c.LastFlushAt == nil {
			t.Errorf("%s counts %d records, last at %v, flushed at %v, want %d", c.Name, c.RecordsTotal, c.LastRecordAt, c.LastFlushAt, partitions*each)
		}
		if n, _ := a.Metrics().Value("kcagent_consumer_records_total", "consumer="+e.name); n != partitions*each {
			t.Errorf("the metrics count %v records of %s, want %d", n, e.name, partitions*each)
		}
	}
}

func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	const partitions, each, kills = 2, 20_000, 6
	s := newScene(t)
	topic := s.topic(t, "killed", partitions)
	e := s.entry("killed", topic)
	cut := 0 // how often a kill left something to do
	for i := range kills {
		// By turns the file is hardly and far ahead of what is committed.
		e = e.withFlush([]string{"{interval: 10ms}", "{interval: 500ms}"}[i%2])
		a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
		a.WaitState(e.name, "RUNNING")
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: i * each, Count: each})
		a.Kill() // while the last of them are on their way
		committed, tr := s.Committed(t, e.group, topic), follow(t, e.path)
		for p := range int32(partitions) {
			if n := int64(tr.next(key(topic, p))); committed[p] > n {
				t.Fatalf("kill %d: committed %d of partition %d, and the file ends before record %d", i, committed[p], p, n)
			}
			if committed[p] < int64((i+1)*each) {
				cut++
			}
		}
		s.Evict(t, e.group) // or the next member waits for the session of the dead one
	}
	if cut == 0 {
		t.Error("no kill came before everything was committed")
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, partitions*each*kills)
	repeats := follow(t, e.path).wantAll(t, topic, partitions, each*kills)
	t.Logf("%d kills, after %d of which something was left to do, repeated %d records", kills, cut, repeats)
}

func TestSignalFlushesAndCommits(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			const partitions, each = 2, 100_000
			s := newScene(t)
			small, big := s.topic(t, "small", partitions), s.topic(t, "big", partitions)
			// One has read everything and flushed nothing, one is in mid-flow, one
			// is paused and one is stopped.
			idle, busy := s.entry("idle", small).withFlush(never), s.entry("busy", big).withFlush(never)
			paused, stopped := s.entry("paused", small).withState("paused"), s.entry("stopped", small).withState("stopped")
			s.Produce(t, kafkatest.Load{Topic: small, Partitions: partitions, Count: 500})
			a := agenttest.Start(t, agenttest.Options{Config: s.file(idle, busy, paused, stopped)})
			a.WaitConsumer("idle", "read everything", func(c agenttest.Consumer) bool { return c.RecordsTotal == partitions*500 })
			a.WaitState("busy", "RUNNING")
			a.WaitState("paused", "PAUSED")
			if n := s.committed(t, idle); n != 0 {
				t.Fatalf("%d records are committed before anything asked for it", n)
			}
			s.Produce(t, kafkatest.Load{Topic: big, Partitions: partitions, Count: each})
			a.Signal(sig) // while the last of them are on their way
			if code := a.WaitExit(30 * time.Second); code != 0 {
				t.Fatalf("exit code %d, want 0", code)
			}
			follow(t, idle.path).wantExact(t, small, partitions, 500)
			if n := s.committed(t, idle); n != partitions*500 {
				t.Errorf("idle: %d records are committed, want %d", n, partitions*500)
			}
			tr, committed := follow(t, busy.path), s.Committed(t, busy.group, big)
			for p := range int32(partitions) {
				tr.wantRun(t, key(big, p))
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

// stuck starts an agent with a consumer that cannot stop: its standard output
// is a full pipe. Closing the reader, or reading, sets it free.
func stuck(t *testing.T, s *scene, args ...string) (a *agenttest.Agent, e entry, reader *os.File) {
	t.Helper()
	topic := s.topic(t, "stuck", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 20_000})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	defer writer.Close()
	e = s.entry("stuck", topic).withPath("")
	a = agenttest.Start(t, agenttest.Options{Config: s.file(e, s.entry("free", topic)), Stdout: writer, Args: args})
	s.waitCommitted(t, a, s.entry("free", topic), 20_000)
	wait.For(t, wait.Timeout, "the pipe to be full", func() error {
		if n := pipeFill(t, reader); n < 32<<10 {
			return fmt.Errorf("it holds %d bytes", n)
		}
		return nil
	})
	return a, e, reader
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	a, _, _ := stuck(t, newScene(t), "--shutdown-timeout", "10m")
	a.Signal(syscall.SIGTERM)
	a.WaitState("stuck", "STOPPING")
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(15 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

func TestShutdownDeadline(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a, e, _ := stuck(t, s, "--shutdown-timeout", "1s")
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(30 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1: a consumer did not stop", code)
	}
	if n := s.committed(t, e); n >= 20_000 {
		t.Errorf("%d records are committed, and most of them were never written", n)
	}
	if free := s.entry("free", e.topics...); s.committed(t, free) != 20_000 {
		t.Error("the other consumer did not commit")
	}
}
