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

// A life is a consumer that edits move from state to state, beside a neighbour
// that reads the same topic and must notice nothing. What the neighbour has
// read by now, the consumer could have read too: that is how the tests know
// that a pause or a stop is one, without waiting for nothing to happen.
type lifecycle struct {
	*scene
	agent              *agenttest.Agent
	subject, neighbour entry
	neighbourIdentity  identity // of the neighbour
	produced           int      // records in each partition
}

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

// more produces records and waits until the neighbour has them all.
func (l *lifecycle) produce(t *testing.T) {
	t.Helper()
	const count = 300
	l.Produce(t, kafkatest.Load{Topic: l.subject.topics[0], Partitions: lifecyclePartitions, First: l.produced, Count: count})
	l.produced += count
	l.waitCommitted(t, l.agent, l.neighbour, l.total())
}

func (l *lifecycle) total() int64 { return int64(l.produced * lifecyclePartitions) }

// edit applies the file with this subject and sees that the neighbour is who
// it was.
func (l *lifecycle) edit(t *testing.T, subject ...entry) {
	t.Helper()
	l.agent.Apply(l.config(append([]entry{l.neighbour}, subject...)...))
	wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
}

// wantFile demands that the subject's file holds n records of each partition,
// each once and in order.
func (l *lifecycle) wantFile(t *testing.T, n int) {
	t.Helper()
	readTrail(t, l.subject.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, n)
}

// wantEmptyGroup demands that nobody is in the subject's group.
func (l *lifecycle) wantEmptyGroup(t *testing.T) {
	t.Helper()
	if g := l.Group(t, l.subject.group); len(g.Members) > 0 {
		t.Fatalf("group %s is %s with members %v, want none", l.subject.group, g.State, g.Members)
	}
}

// wantNoGoroutine demands that the subject holds no goroutine; the last ones
// may take a moment to leave.
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

// wantGone demands that nothing but a line among the ended is left of the
// subject.
func (l *lifecycle) wantGone(t *testing.T, records int64) {
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
