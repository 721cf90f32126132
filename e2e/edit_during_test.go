package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/wait"
)

// TestResumeDuringARebalanceKeepsTheMember resumes a consumer while its group waits for it to
// join again.
func TestResumeDuringARebalanceKeepsTheMember(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "paused")
	was := l.agent.WaitState("subject", "PAUSED")
	other := l.subject.withState("running").withPath(filepath.Join(l.dir, "other.log"))
	second := agenttest.Launch(t, agenttest.Options{Config: l.config(other)})
	wait.For(t, wait.Timeout, "a rebalance to begin", func() error {
		if g := l.Group(t, l.subject.group); g.State != "PreparingRebalance" {
			return fmt.Errorf("the group is %s", g.State)
		}
		return nil
	})
	l.edit(t, l.subject.withState("running"))
	half := func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && len(c.Partitions) == 1 }
	now := l.agent.WaitConsumer("subject", "run with one partition", half)
	second.WaitConsumer("subject", "run with one partition", half)
	if now.ID != was.ID || strings.Join(now.MemberIDs, " ") != strings.Join(was.MemberIDs, " ") || now.RestartsTotal > 0 {
		t.Errorf("it is %+v, was %+v", now, was)
	}
	l.produce(t)
	wait.For(t, wait.Timeout, "everything to be committed", func() error {
		if n := l.committed(t, l.subject); n != l.total() {
			return fmt.Errorf("%d of %d are", n, l.total())
		}
		return nil
	})
	readTrail(t, l.subject.path, other.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, l.produced)
}

// TestRenamedConsumerWaitsForItsFile gives an entry another name and leaves it its file and its
// group: the old one is gone before the new one opens the file.
func TestRenamedConsumerWaitsForItsFile(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	renamed := l.subject
	for i := range 3 {
		renamed.name = fmt.Sprintf("subject-%d", i)
		l.edit(t, renamed)
		l.agent.WaitState(renamed.name, "RUNNING")
		l.produce(t)
	}
	l.waitCommitted(t, l.agent, renamed, l.total())
	l.wantFile(t, l.produced)
	for _, name := range []string{"subject", "subject-0", "subject-1"} {
		if ended, ok := l.agent.Status().Ended(name); !ok || !ended.Clean {
			t.Errorf("%s is among the ended: %v, %+v", name, ok, ended)
		}
	}
	gone, came := strings.Index(l.agent.Log(), "consumer=subject from=STOPPING to=TERMINATED"), strings.Index(l.agent.Log(), "consumer=subject-0 from=STARTING to=RUNNING")
	if gone < 0 || came < gone {
		t.Errorf("the log tells of the end at %d and of the new name's start at %d", gone, came)
	}
}

// TestRevertCancelsThePreCheck: what was being tried is dropped, and the
// consumer is who it was.
func TestRevertCancelsThePreCheck(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	was := identify(t, l.agent.Consumer("subject"))
	hole := newGate(t)
	l.agent.Write(configText(map[string][]string{"main": l.Addrs(), "hole": {hole.addr}}, l.neighbour, l.subject.withCluster("hole")))
	l.agent.WaitConsumer("subject", "be tried elsewhere", func(c agenttest.Consumer) bool {
		return c.PendingChange != nil && c.PendingChange.Tries == 1
	})
	l.edit(t, l.subject)
	l.produce(t)
	l.waitCommitted(t, l.agent, l.subject, l.total())
	wantSame(t, l.agent, "subject", was)
	if c := l.agent.Consumer("subject"); c.PendingChange != nil {
		t.Errorf("pending is %+v", c.PendingChange)
	}
	l.agent.Signal(os.Interrupt)
	if code := l.agent.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("the agent ended with exit code %d", code)
	}
}
