package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestEditsMoveAConsumerThroughItsStates moves a consumer from stopped to running, paused,
// running, stopped, running and out of the file.
func TestEditsMoveAConsumerThroughItsStates(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "stopped")
	created := l.agent.WaitState("subject", "CREATED")
	if len(created.MemberIDs) > 0 {
		t.Errorf("a stopped consumer has members %v", created.MemberIDs)
	}
	l.wantNoGoroutine(t)
	if _, err := os.Stat(l.subject.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stopped consumer created its file: %v", err)
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
	l.produce(t)
	wantSame(t, l.agent, "subject", running)
	l.wantFile(t, atPause)
	if got := l.committed(t, l.subject); got != int64(atPause*lifecyclePartitions) {
		t.Errorf("%d records are committed after the pause, want %d", got, atPause*lifecyclePartitions)
	}

	l.edit(t, l.subject.withState("running"))
	l.waitCommitted(t, l.agent, l.subject, l.total())
	wantSame(t, l.agent, "subject", running)
	l.wantFile(t, l.produced)

	atStop := l.produced
	l.edit(t, l.subject.withState("stopped"))
	stopped := l.agent.WaitState("subject", "CREATED")
	if stopped.ID != created.ID || running.id != created.ID {
		t.Errorf("the id was %s, then %s, then %s: want the same id", created.ID, running.id, stopped.ID)
	}
	l.wantEmptyGroup(t)
	l.wantNoGoroutine(t)
	l.produce(t)
	l.wantFile(t, atStop)

	l.edit(t, l.subject.withState("running"))
	l.waitCommitted(t, l.agent, l.subject, l.total())
	l.wantFile(t, l.produced)

	total := l.agent.Consumer("subject").RecordsTotal
	l.edit(t)
	l.wantGone(t, total)
	l.wantFile(t, l.produced)
}

// TestFlushIntervalIsUpdatedInPlace: a shorter interval flushes what a longer one has held
// back.
func TestFlushIntervalIsUpdatedInPlace(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "stopped")
	lazy := l.subject.withState("running").withFlush(flushNever)
	l.edit(t, lazy)
	l.agent.WaitConsumer("subject", "read everything", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && c.RecordsTotal == l.total()
	})
	was := identify(t, l.agent.Consumer("subject"))
	if n := l.committed(t, l.subject); n != 0 {
		t.Fatalf("%d records are committed before the interval has passed", n)
	}
	l.edit(t, lazy.withFlush("{interval: 100ms}"))
	l.waitCommitted(t, l.agent, l.subject, l.total()) // the old interval is an hour
	wantSame(t, l.agent, "subject", was)
	l.wantFile(t, l.produced)
}

// TestReplacedConsumerContinuesItsFile changes the format while records arrive. The old
// consumer ends before the new one writes, and no record is lost or repeated.
func TestReplacedConsumerContinuesItsFile(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	was := identify(t, l.agent.Consumer("subject"))
	// Records arrive while the new consumer takes over the file of the old one.
	const many = 20_000
	l.Produce(t, kafkatest.Load{Topic: l.subject.topics[0], Partitions: lifecyclePartitions, First: l.produced, Count: many})
	l.produced += many
	l.edit(t, l.subject.withFormat("json"))
	l.agent.WaitState("subject", "RUNNING")
	l.produce(t)
	l.waitCommitted(t, l.agent, l.subject, l.total())
	l.wantFile(t, l.produced)
	if is := identify(t, l.agent.Consumer("subject")); is.id == was.id || is.members == was.members {
		t.Errorf("id and members are %s %s as before: the consumer was not replaced", is.id, is.members)
	}
	var sawJSON bool
	for i, line := range lines(t, l.subject.path) {
		isJSON := line[0] == '{'
		if sawJSON && !isJSON {
			t.Fatalf("line %d is raw and follows JSON: the old consumer wrote after the new one", i+1)
		}
		sawJSON = isJSON
	}
	if !sawJSON {
		t.Error("the file has no JSON")
	}
	if ended, ok := l.agent.Status().Ended("subject"); !ok || !ended.Clean {
		t.Errorf("terminated lacks a clean end of the old consumer: %+v", ended)
	}
}

// TestNewGroupReadsFromTheStart: another group has no committed offsets, so the start
// policy applies.
func TestNewGroupReadsFromTheStart(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	was := identify(t, l.agent.Consumer("subject"))
	other := l.subject.withGroup(l.subject.group + "-other")
	l.edit(t, other)
	l.waitCommitted(t, l.agent, other, l.total())
	l.wantEmptyGroup(t)
	if is := identify(t, l.agent.Consumer("subject")); is.id == was.id {
		t.Error("the id is as before")
	}
	// The new group has read all records again, after the old one.
	for part, seqs := range readTrail(t, l.subject.path) {
		half := len(seqs) / 2
		trail{part: seqs[:half]}.wantPrefix(t, part)
		trail{part: seqs[half:]}.wantPrefix(t, part)
		if len(seqs) != 2*l.produced {
			t.Errorf("%s: %d records, want each of %d twice", part, len(seqs), l.produced)
		}
	}
}

// TestPauseSurvivesRebalanceAndRestart: a paused consumer stays paused and reads nothing,
// whatever happens to its group and its agent.
func TestPauseSurvivesRebalanceAndRestart(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "paused")
	was := l.agent.WaitState("subject", "PAUSED")
	assigned := func(n int) func(agenttest.Consumer) bool {
		return func(c agenttest.Consumer) bool { return c.Status == "PAUSED" && len(c.Partitions) == n }
	}
	l.agent.WaitConsumer("subject", "hold both partitions", assigned(lifecyclePartitions))

	other := l.subject.withState("running").withPath(filepath.Join(l.dir, "other.log"))
	second := agenttest.Start(t, agenttest.Options{Config: l.config(other)})
	second.WaitConsumer("subject", "hold one partition", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 1
	})
	now := l.agent.WaitConsumer("subject", "hold one partition", assigned(1))
	if now.ID != was.ID || now.Generation <= was.Generation {
		t.Errorf("id %s and generation %d were %s and %d: want the same id and a later generation", now.ID, now.Generation, was.ID, was.Generation)
	}
	l.produce(t)
	waitLines(t, other.path, l.produced)
	l.wantFile(t, 0)

	stopAgent(t, second)
	l.agent.WaitConsumer("subject", "hold both partitions again", assigned(lifecyclePartitions))
	l.produce(t)
	l.wantFile(t, 0)

	stopAgent(t, l.agent)
	l.agent = agenttest.Start(t, agenttest.Options{Path: l.agent.Path})
	l.agent.WaitConsumer("subject", "hold both partitions after a restart", assigned(lifecyclePartitions))
	l.produce(t)
	l.wantFile(t, 0)
	l.neighbourIdentity = identify(t, l.agent.Consumer("neighbour"))

	l.edit(t, l.subject.withState("running"))
	l.waitCommitted(t, l.agent, l.subject, l.total())
	readTrail(t, other.path, l.subject.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, l.produced)
}
