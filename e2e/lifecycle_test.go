package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

const lifeParts = 2

// A life is a consumer that edits move from state to state, beside a neighbour
// that reads the same topic and must notice nothing. What the neighbour has
// read by now, the consumer could have read too: that is how the tests know
// that a pause or a stop is one, without waiting for nothing to happen.
type life struct {
	*scene
	agent              *agenttest.Agent
	subject, neighbour entry
	untouched          identity // of the neighbour
	produced           int      // records in each partition
}

func newLife(t *testing.T, subjectState string) *life {
	t.Helper()
	l := &life{scene: newScene(t)}
	topic := l.topic(t, "life", lifeParts)
	l.subject, l.neighbour = l.entry("subject", topic).withState(subjectState), l.entry("neighbour", topic)
	l.agent = agenttest.Start(t, agenttest.Options{Config: l.file(l.neighbour, l.subject)})
	l.agent.WaitState("neighbour", "RUNNING")
	l.more(t)
	l.untouched = identify(t, l.agent.Consumer("neighbour"))
	return l
}

// more produces records and waits until the neighbour has them all.
func (l *life) more(t *testing.T) {
	t.Helper()
	const count = 300
	l.Produce(t, kafkatest.Load{Topic: l.subject.topics[0], Partitions: lifeParts, First: l.produced, Count: count})
	l.produced += count
	l.waitCommitted(t, l.agent, l.neighbour, l.total())
}

func (l *life) total() int64 { return int64(l.produced * lifeParts) }

// edit applies the file with this subject and sees that the neighbour is who
// it was.
func (l *life) edit(t *testing.T, subject ...entry) {
	t.Helper()
	l.agent.Apply(l.file(append([]entry{l.neighbour}, subject...)...))
	wantSame(t, l.agent, "neighbour", l.untouched)
}

// wantFile demands that the subject's file holds n records of each partition,
// each once and in order.
func (l *life) wantFile(t *testing.T, n int) {
	t.Helper()
	follow(t, l.subject.path).wantExact(t, l.subject.topics[0], lifeParts, n)
}

// wantEmptyGroup demands that nobody is in the subject's group.
func (l *life) wantEmptyGroup(t *testing.T) {
	t.Helper()
	if g := l.Group(t, l.subject.group); len(g.Members) > 0 {
		t.Fatalf("group %s is %s with members %v, want none", l.subject.group, g.State, g.Members)
	}
}

// wantNoGoroutine demands that the subject holds no goroutine; the last ones
// may take a moment to leave.
func (l *life) wantNoGoroutine(t *testing.T) {
	t.Helper()
	wait.For(t, wait.Timeout, "the goroutines of a stopped consumer to end", func() error {
		th := l.agent.Threads()
		if th.Consumers["subject"] == 0 {
			return nil
		}
		return fmt.Errorf("%+v", th.Threads)
	})
}

func TestLifeByEdits(t *testing.T) {
	t.Parallel()
	l := newLife(t, "stopped")
	created := l.agent.WaitState("subject", "CREATED")
	if len(created.MemberIDs) > 0 {
		t.Errorf("a stopped consumer has members %v", created.MemberIDs)
	}
	l.wantNoGoroutine(t)
	if _, err := os.Stat(l.subject.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stopped consumer made its file: %v", err)
	}
	l.wantEmptyGroup(t)

	l.edit(t, l.subject.withState("running"))
	l.agent.WaitState("subject", "RUNNING")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	l.wantFile(t, l.produced)
	running := identify(t, l.agent.Consumer("subject"))

	atPause := l.produced
	l.edit(t, l.subject.withState("paused"))
	l.agent.WaitState("subject", "PAUSED")
	l.more(t)
	wantSame(t, l.agent, "subject", running)
	l.wantFile(t, atPause)
	if got := l.committed(t, l.subject); got != int64(atPause*lifeParts) {
		t.Errorf("paused with %d records committed, want %d", got, atPause*lifeParts)
	}

	l.edit(t, l.subject.withState("running"))
	l.waitCommitted(t, l.agent, l.subject, l.total())
	wantSame(t, l.agent, "subject", running)
	l.wantFile(t, l.produced)

	atStop := l.produced
	l.edit(t, l.subject.withState("stopped"))
	stopped := l.agent.WaitState("subject", "CREATED")
	if stopped.ID != created.ID || running.id != created.ID {
		t.Errorf("the id was %s, then %s, then %s: it should stay", created.ID, running.id, stopped.ID)
	}
	l.wantEmptyGroup(t)
	l.wantNoGoroutine(t)
	l.more(t)
	l.wantFile(t, atStop)

	l.edit(t, l.subject.withState("running"))
	l.waitCommitted(t, l.agent, l.subject, l.total())
	l.wantFile(t, l.produced)

	total := l.agent.Consumer("subject").RecordsTotal
	l.edit(t)
	l.wantGone(t, total)
	l.wantFile(t, l.produced)
}

// wantGone demands that nothing but a line among the ended is left of the
// subject.
func (l *life) wantGone(t *testing.T, records int64) {
	t.Helper()
	status := l.agent.WaitStatus("the subject to be gone", func(s agenttest.Status) bool {
		_, is := s.Consumer("subject")
		return !is
	})
	ended, ok := status.Ended("subject")
	if !ok || !ended.Clean || ended.RecordsTotal != records || ended.At.IsZero() {
		t.Errorf("among the ended: %+v (%v), want a clean end after %d records", ended, ok, records)
	}
	if code, _ := l.agent.Get("/status/subject"); code != http.StatusNotFound {
		t.Errorf("/status/subject answers %d, want 404", code)
	}
	if left := l.agent.Metrics().Of("subject"); len(left) > 0 {
		t.Errorf("these metrics still have its series: %v", left)
	}
	if _, is := l.agent.Threads().Consumers["subject"]; is {
		t.Error("/threads still lists it")
	}
	l.wantEmptyGroup(t)
}

func TestFlushIntervalInPlace(t *testing.T) {
	t.Parallel()
	l := newLife(t, "stopped")
	lazy := l.subject.withState("running").withFlush(never)
	l.edit(t, lazy)
	l.agent.WaitConsumer("subject", "read everything", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && c.RecordsTotal == l.total()
	})
	was := identify(t, l.agent.Consumer("subject"))
	if n := l.committed(t, l.subject); n != 0 {
		t.Fatalf("%d records are committed long before the interval is over", n)
	}
	l.edit(t, lazy.withFlush("{interval: 100ms}"))
	l.waitCommitted(t, l.agent, l.subject, l.total()) // or it would take an hour
	wantSame(t, l.agent, "subject", was)
	l.wantFile(t, l.produced)
}

func TestReplaceFormat(t *testing.T) {
	t.Parallel()
	l := newLife(t, "running")
	was := identify(t, l.agent.Consumer("subject"))
	// Records come while the old one makes way for the new one, on one file.
	const many = 20_000
	l.Produce(t, kafkatest.Load{Topic: l.subject.topics[0], Partitions: lifeParts, First: l.produced, Count: many})
	l.produced += many
	l.edit(t, l.subject.withFormat("json"))
	l.agent.WaitState("subject", "RUNNING")
	l.more(t)
	l.waitCommitted(t, l.agent, l.subject, l.total())
	l.wantFile(t, l.produced)
	if is := identify(t, l.agent.Consumer("subject")); is.id == was.id || is.members == was.members {
		t.Errorf("id and members are %s %s as before: it was not replaced", is.id, is.members)
	}
	var sawJSON bool
	for i, line := range lines(t, l.subject.path) {
		isJSON := line[0] == '{'
		if sawJSON && !isJSON {
			t.Fatalf("line %d is raw and follows JSON: the old one still wrote", i+1)
		}
		sawJSON = isJSON
	}
	if !sawJSON {
		t.Error("no line is JSON")
	}
	if ended, ok := l.agent.Status().Ended("subject"); !ok || !ended.Clean {
		t.Errorf("the old one is not among the ended, or not clean: %+v", ended)
	}
}

func TestReplaceGroup(t *testing.T) {
	t.Parallel()
	l := newLife(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	was := identify(t, l.agent.Consumer("subject"))
	other := l.subject.withGroup(l.subject.group + "-other")
	l.edit(t, other)
	l.waitCommitted(t, l.agent, other, l.total())
	l.wantEmptyGroup(t)
	if is := identify(t, l.agent.Consumer("subject")); is.id == was.id {
		t.Error("the id is as before")
	}
	// The new group has read everything once more, after the old one.
	for part, seqs := range follow(t, l.subject.path) {
		half := len(seqs) / 2
		trail{part: seqs[:half]}.wantRun(t, part)
		trail{part: seqs[half:]}.wantRun(t, part)
		if len(seqs) != 2*l.produced {
			t.Errorf("%s: %d records, want each of %d twice", part, len(seqs), l.produced)
		}
	}
}

func TestPauseSurvivesRebalanceAndRestart(t *testing.T) {
	t.Parallel()
	l := newLife(t, "paused")
	was := l.agent.WaitState("subject", "PAUSED")
	assigned := func(n int) func(agenttest.Consumer) bool {
		return func(c agenttest.Consumer) bool { return c.Status == "PAUSED" && len(c.Partitions) == n }
	}
	l.agent.WaitConsumer("subject", "hold both partitions", assigned(lifeParts))

	other := l.subject.withState("running").withPath(filepath.Join(l.dir, "other.log"))
	second := agenttest.Start(t, agenttest.Options{Config: l.file(other)})
	second.WaitConsumer("subject", "hold one partition", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 1
	})
	now := l.agent.WaitConsumer("subject", "hold one partition", assigned(1))
	if now.ID != was.ID || now.Generation <= was.Generation {
		t.Errorf("id %s and generation %d were %s and %d: want the same id and a later generation", now.ID, now.Generation, was.ID, was.Generation)
	}
	l.more(t)
	waitLines(t, other.path, l.produced)
	l.wantFile(t, 0)

	second.Signal(os.Interrupt)
	if code := second.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("the second agent ended with exit code %d", code)
	}
	l.agent.WaitConsumer("subject", "hold both partitions again", assigned(lifeParts))
	l.more(t)
	l.wantFile(t, 0)

	l.agent.Signal(os.Interrupt)
	if code := l.agent.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("the agent ended with exit code %d", code)
	}
	l.agent = agenttest.Start(t, agenttest.Options{Path: l.agent.Path})
	l.agent.WaitConsumer("subject", "hold both partitions after a restart", assigned(lifeParts))
	l.more(t)
	l.wantFile(t, 0)
	l.untouched = identify(t, l.agent.Consumer("neighbour"))

	l.edit(t, l.subject.withState("running"))
	l.waitCommitted(t, l.agent, l.subject, l.total())
	follow(t, other.path, l.subject.path).wantExact(t, l.subject.topics[0], lifeParts, l.produced)
}
