package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/wait"
)

// TestResumeDuringARebalanceKeepsTheMember resumes a consumer while the coordinator waits
// for its members to rejoin.
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
	l.waitGroupCommitted(t, l.subject, l.total())
	readTrail(t, l.subject.path, other.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, l.produced)
}

// TestRenamedConsumerWaitsForItsFile renames an entry that keeps its file and its group.
// The old consumer ends before the new one opens the file.
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
		if e, ok := l.agent.Status().Ended(name); !ok || !e.Clean {
			t.Errorf("%s in terminated: %v, %+v", name, ok, e)
		}
	}
	ended, started := strings.Index(l.agent.Log(), "consumer=subject from=STOPPING to=TERMINATED"), strings.Index(l.agent.Log(), "consumer=subject-0 from=STARTING to=RUNNING")
	if ended < 0 || started < ended {
		t.Errorf("the log has the end of the old name at %d and the start of the new name at %d", ended, started)
	}
}

// TestRevertCancelsThePreCheck reverts an edit during its pre-check, which an unresponsive
// cluster holds up. The consumer keeps its identity.
func TestRevertCancelsThePreCheck(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	was := identify(t, l.agent.Consumer("subject"))
	unresponsive := badnet.Listen(t, func(net.Conn) {})
	l.agent.Write(configText(map[string][]string{"main": l.Addrs(), "unresponsive": {unresponsive}}, l.neighbour, l.subject.withCluster("unresponsive")))
	l.agent.WaitConsumer("subject", "start the pre-check", func(c agenttest.Consumer) bool {
		return c.PendingChange != nil && c.PendingChange.Tries == 1
	})
	l.edit(t, l.subject)
	l.produce(t)
	l.waitCommitted(t, l.agent, l.subject, l.total())
	wantSame(t, l.agent, "subject", was)
	if c := l.agent.Consumer("subject"); c.PendingChange != nil {
		t.Errorf("pending_change is %+v", c.PendingChange)
	}
	stopAgent(t, l.agent)
}
