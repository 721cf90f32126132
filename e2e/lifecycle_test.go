package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

const lifecyclePartitions = 2

// A lifecycle is a consumer (the subject) that edits move from state to state, beside a
// neighbour that reads the same topic and that no edit may touch. The neighbour is also
// the clock of the tests: once it has read a record, a subject that was not paused would
// have read it as well. No test has to wait to see that nothing happens.
type lifecycle struct {
	*scene
	agent              *agenttest.Agent
	subject, neighbour entry
	neighbourIdentity  identity
	produced           int // records in each partition
}

// newLifecycle starts an agent with both consumers and produces the first records.
func newLifecycle(t *testing.T, subjectState string) *lifecycle {
	t.Helper()
	l := &lifecycle{scene: newScene(t)}
	topic := l.newTopic(t, "life", lifecyclePartitions)
	l.subject, l.neighbour = l.entry("subject", topic).withState(subjectState), l.entry("neighbour", topic)
	l.agent = agenttest.Start(t, agenttest.Options{Config: l.config(l.neighbour, l.subject)})
	l.agent.WaitState("neighbour", "RUNNING")
	l.produce(t)
	l.neighbourIdentity = identify(t, l.agent.Consumer("neighbour"))
	return l
}

// produce produces records and waits until the neighbour has committed them.
func (l *lifecycle) produce(t *testing.T) {
	t.Helper()
	const count = 300
	l.Produce(t, kafkatest.Load{Topic: l.subject.topics[0], Partitions: lifecyclePartitions, First: l.produced, Count: count})
	l.produced += count
	l.waitCommitted(t, l.agent, l.neighbour, l.total())
}

// total returns the number of records in all partitions.
func (l *lifecycle) total() int64 { return int64(l.produced * lifecyclePartitions) }

// edit applies a configuration file with this subject, or with none, and requires that the
// neighbour was not touched.
func (l *lifecycle) edit(t *testing.T, subject ...entry) {
	t.Helper()
	l.agent.Apply(l.config(append([]entry{l.neighbour}, subject...)...))
	wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
}

// wantFile requires n records of each partition in the subject's file, each once and in
// order.
func (l *lifecycle) wantFile(t *testing.T, n int) {
	t.Helper()
	readTrail(t, l.subject.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, n)
}

// wantEmptyGroup requires that the subject's group has no member.
func (l *lifecycle) wantEmptyGroup(t *testing.T) {
	t.Helper()
	if g := l.Group(t, l.subject.group); len(g.Members) > 0 {
		t.Fatalf("group %s is %s with members %v, want none", l.subject.group, g.State, g.Members)
	}
}

// wantNoGoroutine waits until the subject has no goroutine.
func (l *lifecycle) wantNoGoroutine(t *testing.T) {
	t.Helper()
	wait.For(t, wait.Timeout, "the goroutines of a stopped consumer to end", func() error {
		th := l.agent.Threads()
		if th.Consumers["subject"] == 0 {
			return nil
		}
		return fmt.Errorf("%+v", th.Threads)
	})
}

// wantGone requires that nothing but an item of "terminated" in /status is left of the
// subject.
func (l *lifecycle) wantGone(t *testing.T, records int64) {
	t.Helper()
	status := l.agent.WaitStatus("the subject to end", func(s agenttest.Status) bool {
		_, is := s.Consumer("subject")
		return !is
	})
	ended, ok := status.Ended("subject")
	if !ok || !ended.Clean || ended.RecordsTotal != records || ended.At.IsZero() {
		t.Errorf("terminated: %+v (%v), want a clean end after %d records", ended, ok, records)
	}
	if code, _ := l.agent.Get("/status/subject"); code != http.StatusNotFound {
		t.Errorf("GET /status/subject: code %d, want 404", code)
	}
	if left := l.agent.Metrics().Of("subject"); len(left) > 0 {
		t.Errorf("metrics still have series of the subject: %v", left)
	}
	if _, is := l.agent.Threads().Consumers["subject"]; is {
		t.Error("/threads still lists the subject")
	}
	l.wantEmptyGroup(t)
}
