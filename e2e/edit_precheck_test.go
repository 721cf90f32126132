package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestFailedPreCheckKeepsTheRunningConsumer: what cannot work is tried while the old form goes on
// reading, is told, and is made once it can be.
func TestFailedPreCheckKeepsTheRunningConsumer(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	was := identify(t, l.agent.Consumer("subject"))
	hole := fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))
	write := func(e entry) string {
		text := configText(map[string][]string{"main": l.Addrs(), "away": {hole}}, l.neighbour, e)
		l.agent.Write(text)
		return text
	}
	pending := func(action, why string) {
		t.Helper()
		c := l.agent.WaitConsumer("subject", "tell why "+action+" waits", func(c agenttest.Consumer) bool {
			p := c.PendingChange
			return p != nil && p.Action == action && p.Tries > 1 && p.NextTryAt != nil && strings.Contains(p.Error, why)
		})
		if c.Status != "RUNNING" {
			t.Errorf("the old form is %s", c.Status)
		}
		if s := l.agent.Status().Config.State; s != "applying" {
			t.Errorf("the configuration is %s", s)
		}
		if v, ok := l.agent.Metrics().Value("kcagent_consumer_change_pending", "consumer=subject"); !ok || v != 1 {
			t.Errorf("the metric of pending changes is %v (%v)", v, ok)
		}
		l.produce(t) // the old form still reads
		l.waitCommitted(t, l.agent, l.subject, l.total())
		wantSame(t, l.agent, "subject", was)
		wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
	}

	write(l.subject.withCluster("away"))
	pending("replace", hole)

	missing := "later-" + l.suffix
	text := write(l.subject.withTopics(l.subject.topics[0], missing))
	pending("resubscribe", missing)
	out, err := exec.Command(agenttest.Binary(t), "validate", "--online", "--config", l.agent.Path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), missing) {
		t.Errorf("validate --online: %v\n%s", err, out)
	}
	l.CreateTopic(t, missing, 1)
	l.agent.WaitSynced(text)
	was.generation++
	was.rebalances++
	wantSame(t, l.agent, "subject", was)

	// A file that another agent writes.
	taken := l.entry("thief", l.subject.topics[0]).withPath(filepath.Join(l.dir, "taken.log"))
	thief := agenttest.Start(t, agenttest.Options{Config: l.config(taken)})
	thief.WaitState("thief", "RUNNING")
	back := l.subject.withTopics(l.subject.topics[0], missing)
	text = write(back.withPath(taken.path))
	pending("replace", "locked by another")

	// An edit back leaves everything as it is.
	l.agent.Apply(configText(map[string][]string{"main": l.Addrs()}, l.neighbour, back))
	wantSame(t, l.agent, "subject", was)
	l.agent.Write(text)
	pending("replace", "locked by another")
	thief.Signal(os.Interrupt)
	if code := thief.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("the other agent ended with exit code %d", code)
	}
	l.agent.WaitSynced(text)
	if c := l.agent.Consumer("subject"); c.ID == was.id || c.PendingChange != nil || c.Sink != "file:"+taken.path {
		t.Errorf("after the other agent has gone it is %+v", c)
	}
	readTrail(t, l.subject.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, l.produced)
}
