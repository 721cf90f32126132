package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// upTo counts: 0 to n-1.
func upTo(n int) []int { return from(0, n) }

func from(first, n int) []int {
	var seqs []int
	for i := first; i < n; i++ {
		seqs = append(seqs, i)
	}
	return seqs
}

// wantSeqs demands that a partition's records are exactly these.
func (tr trail) wantSeqs(t *testing.T, partition string, want ...[]int) {
	t.Helper()
	if got, want := tr[partition], slices.Concat(want...); !slices.Equal(got, want) {
		i := 0
		for i < len(got) && i < len(want) && got[i] == want[i] {
			i++
		}
		t.Fatalf("%s: %d records, want %d; the first %d are as they should be, then %v", partition, len(got), len(want), i, got[i:min(len(got), i+5)])
	}
}

func stop(t *testing.T, a *agenttest.Agent) {
	t.Helper()
	a.Signal(os.Interrupt)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}

// TestResetOffsetsIsObeyed: an operator's word counts more than the checkpoint,
// as often as it is spoken, and once each time.
func TestResetOffsetsIsObeyed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "reset", 2)
	e := s.entry("reset", topic)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 1000})
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, 2000)
	a.Apply(s.file(e.withState("stopped")))
	a.WaitState(e.name, "CREATED")
	first, second := key(topic, 0), key(topic, 1)
	for round, back := range []int64{400, 400, 0} { // to the same offset, too
		s.ResetOffsets(t, e.group, topic, map[int32]int64{1: back})
		a.Apply(s.file(e))
		s.waitCommitted(t, a, e, 2000)
		want := [][]int{upTo(1000), from(400, 1000), from(400, 1000), upTo(1000)}[:round+2]
		follow(t, e.path).wantSeqs(t, second, want...)
		if n, _ := a.Metrics().Value("kcagent_consumer_offset_resets_total", "consumer="+e.name); n != float64(round+1) {
			t.Errorf("%v resets are counted, want %d", n, round+1)
		}
		if !strings.Contains(a.Log(), "committed offset was changed externally; resuming there") {
			t.Error("the log does not say it")
		}
		a.Apply(s.file(e.withState("stopped")))
		a.WaitState(e.name, "CREATED")
	}
	// Forward: what lies between was not wanted.
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 1000, Count: 500})
	s.ResetOffsets(t, e.group, topic, map[int32]int64{1: 1400})
	stop(t, a)
	a = agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, 3000)
	tr := follow(t, e.path)
	tr.wantSeqs(t, second, upTo(1000), from(400, 1000), from(400, 1000), upTo(1000), from(1400, 1500))
	tr.wantSeqs(t, first, upTo(1500))
}

// TestResetAndKill: a crash soon after a reset neither forgets it nor obeys it
// twice.
func TestResetAndKill(t *testing.T) {
	t.Parallel()
	const kills, each = 6, 20_000
	s := newScene(t)
	topic := s.topic(t, "resetkill", 1)
	e := s.entry("resetkill", topic).withFlush("{interval: 20ms}")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: each})
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, each)
	stop(t, a)
	s.ResetOffsets(t, e.group, topic, map[int32]int64{0: 5})
	for range kills {
		before := len(lines(t, e.path))
		a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
		a.WaitState(e.name, "RUNNING")
		if before < each+each-5 {
			waitLines(t, e.path, before+1)
		}
		a.Kill()
		s.Evict(t, e.group)
	}
	a = agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, each)
	follow(t, e.path).wantSeqs(t, key(topic, 0), upTo(each), from(5, each))
}

// TestHandOver: a group goes from host to host and back. A clean hand-over
// repeats nothing; after a crash the next begins where the offsets were
// committed, and the one that died does not repeat what the other wrote.
func TestHandOver(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "handover", 2)
	here := s.entry("handover", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	made := 0
	turn := func(e entry) *agenttest.Agent {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: made, Count: 1000})
		made += 1000
		a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
		s.waitCommitted(t, a, e, int64(2*made))
		return a
	}
	for _, e := range []entry{here, there, here} {
		stop(t, turn(e))
	}
	for p := range int32(2) {
		follow(t, here.path).wantSeqs(t, key(topic, p), upTo(1000), from(2000, 3000))
		follow(t, there.path).wantSeqs(t, key(topic, p), from(1000, 2000))
	}
	if n := strings.Count(turn(there).Log(), "changed externally"); n != 0 {
		t.Error("a hand-over counts as an operator's act")
	}
}

// TestCrashThenHandOver: what the one that died wrote beyond the committed
// offsets stands in both files, and no more than that.
func TestCrashThenHandOver(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "crashover", 1)
	here := s.entry("crashover", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 1000})
	a := agenttest.Start(t, agenttest.Options{Config: s.file(here)})
	s.waitCommitted(t, a, here, 1000)
	a.Apply(s.file(here.withFlush(never)))
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 1000, Count: 500})
	waitLines(t, here.path, 1500) // written, not safe
	a.Kill()
	s.Evict(t, here.group)
	b := agenttest.Start(t, agenttest.Options{Config: s.file(there)})
	s.waitCommitted(t, b, there, 1500)
	follow(t, there.path).wantSeqs(t, key(topic, 0), from(1000, 1500))
	stop(t, b)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 1500, Count: 10})
	a = agenttest.Start(t, agenttest.Options{Config: s.file(here)})
	s.waitCommitted(t, a, here, 1510)
	follow(t, here.path).wantSeqs(t, key(topic, 0), upTo(1000), from(1500, 1510))
}

// TestTopicMadeAnew: offsets in a deleted topic say nothing about the one that
// has its name now, not even if it is longer. It is read by the policy.
func TestTopicMadeAnew(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			topic := s.topic(t, "anew", 1)
			e, strict := s.entry("anew", topic), s.entry("strict", topic).with("on_offset_out_of_range: fail")
			// No checkpoint tells it of the old topic: it has to see that it goes.
			loose := s.entry("loose", topic).with("start: latest").withSink("delivery: at_least_once")
			s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 500})
			text := s.file(e, strict, loose)
			a := agenttest.Start(t, agenttest.Options{Config: text})
			a.WaitState("loose", "RUNNING")
			s.waitCommitted(t, a, e, 500)
			s.waitCommitted(t, a, strict, 500)
			if !running {
				stop(t, a)
			}
			s.DeleteTopic(t, topic)
			s.CreateTopic(t, topic, 1)
			s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 800})
			if !running {
				a = agenttest.Start(t, agenttest.Options{Config: text})
			}
			s.waitCommitted(t, a, e, 800)
			follow(t, e.path).wantSeqs(t, key(topic, 0), upTo(500), upTo(800))
			if running {
				s.waitCommitted(t, a, loose, 800)
				follow(t, loose.path).wantSeqs(t, key(topic, 0), upTo(800))
				s.wantResets(t, a, loose, 1)
			}
			s.wantResets(t, a, e, 1)
			if c := a.WaitState("strict", "ERROR"); !strings.Contains(c.Error(), topic) || !strings.Contains(c.Error(), "on_offset_out_of_range is fail") {
				t.Errorf("the strict one says %q", c.Error())
			}
			follow(t, strict.path).wantSeqs(t, key(topic, 0), upTo(500))
		})
	}
}

// TestLogrotate: the file is renamed, as logrotate does it, while the agent
// runs, with SIGHUP and without, and while it is down after a crash.
func TestLogrotate(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "logrotate", 2)
	e := s.entry("logrotate", topic)
	made, files := 0, 0
	produce := func() {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: made, Count: 700})
		made += 700
	}
	rename := func() string {
		t.Helper()
		files++
		to := fmt.Sprintf("%s.%d", e.path, files)
		if err := os.Rename(e.path, to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	all := func() trail {
		t.Helper()
		var paths []string
		for i := range files {
			paths = append(paths, fmt.Sprintf("%s.%d", e.path, i+1))
		}
		return follow(t, append(paths, e.path)...)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	produce()
	s.waitCommitted(t, a, e, int64(2*made))
	moved := rename()
	a.Signal(syscall.SIGHUP)
	wait.For(t, wait.Timeout, "the moved file to be closed", func() error {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", a.Pid()))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == moved {
				return fmt.Errorf("%s is open", to)
			}
		}
		return err
	})
	produce()
	s.waitCommitted(t, a, e, int64(2*made))
	produce()
	rename() // in the middle of it, and nobody says so
	produce()
	s.waitCommitted(t, a, e, int64(2*made))
	all().wantExact(t, topic, 2, made)

	a.Apply(s.file(e.withFlush(never)))
	produce()
	wait.For(t, wait.Timeout, "the records", func() error {
		if n := all().len(); n < 2*made {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	a.Kill()
	s.Evict(t, e.group)
	rename()
	a = agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, int64(2*made))
	all().wantExact(t, topic, 2, made)
}

// TestRebalancesRepeatNothing: members come and go under load, and each record
// is in one of their files, once.
func TestRebalancesRepeatNothing(t *testing.T) {
	t.Parallel()
	const partitions = 6
	s := newScene(t)
	topic := s.topic(t, "rebalanced", partitions)
	here := s.entry("rebalanced", topic)
	there := here.withPath(filepath.Join(s.dir, "there.log"))
	made := 0
	feed := func() error {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: made, Count: 100})
		made += 100
		return nil
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(here)})
	a.WaitState(here.name, "RUNNING")
	for range 3 {
		b := agenttest.Start(t, agenttest.Options{Config: s.file(there)})
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
	stop(t, a)
	count := make(map[string][]int)
	for _, path := range []string{here.path, there.path} {
		for p, seqs := range follow(t, path) {
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
