package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestFailedPreCheckKeepsTheRunningConsumer: a change whose pre-check fails is reported as
// pending while the consumer keeps reading with its old configuration, and is applied once
// the pre-check succeeds.
func TestFailedPreCheckKeepsTheRunningConsumer(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	was := identify(t, l.agent.Consumer("subject"))
	unreachable := fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))
	write := func(e entry) string {
		text := configText(map[string][]string{"main": l.Addrs(), "unreachable": {unreachable}}, l.neighbour, e)
		l.agent.Write(text)
		return text
	}
	pending := func(action, why string) {
		t.Helper()
		c := l.agent.WaitConsumer("subject", "report why "+action+" is pending", func(c agenttest.Consumer) bool {
			p := c.PendingChange
			return p != nil && p.Action == action && p.Tries > 1 && p.NextTryAt != nil && strings.Contains(p.Error, why)
		})
		if c.Status != "RUNNING" {
			t.Errorf("the consumer is %s", c.Status)
		}
		if s := l.agent.Status().Config.State; s != "applying" {
			t.Errorf("the configuration is %s", s)
		}
		if v, ok := l.agent.Metrics().Value("kcagent_consumer_change_pending", "consumer=subject"); !ok || v != 1 {
			t.Errorf("kcagent_consumer_change_pending is %v (%v)", v, ok)
		}
		l.produce(t) // the consumer still reads
		l.waitCommitted(t, l.agent, l.subject, l.total())
		wantSame(t, l.agent, "subject", was)
		wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
	}

	write(l.subject.withCluster("unreachable"))
	pending("replace", unreachable)

	missing := "later-" + l.suffix
	text := write(l.subject.withTopics(l.subject.topics[0], missing))
	pending("resubscribe", missing)
	out, err := validateOnline(t, l.agent.Path)
	if err == nil || !strings.Contains(out, missing) {
		t.Errorf("validate --online: %v\n%s", err, out)
	}
	l.CreateTopic(t, missing, 1)
	l.agent.WaitSynced(text)
	was.generation++
	was.rebalances++
	wantSame(t, l.agent, "subject", was)

	// The file of another agent.
	taken := l.entry("holder", l.subject.topics[0]).withPath(filepath.Join(l.dir, "taken.log"))
	holder := agenttest.Start(t, agenttest.Options{Config: l.config(taken)})
	holder.WaitState("holder", "RUNNING")
	back := l.subject.withTopics(l.subject.topics[0], missing)
	text = write(back.withPath(taken.path))
	pending("replace", "locked by another")

	// A revert changes nothing.
	l.agent.Apply(configText(map[string][]string{"main": l.Addrs()}, l.neighbour, back))
	wantSame(t, l.agent, "subject", was)
	l.agent.Write(text)
	pending("replace", "locked by another")
	stopAgent(t, holder)
	l.agent.WaitSynced(text)
	if c := l.agent.Consumer("subject"); c.ID == was.id || c.PendingChange != nil || c.Sink != "file:"+taken.path {
		t.Errorf("after the end of the other agent, the consumer is %+v", c)
	}
	readTrail(t, l.subject.path).wantExact(t, l.subject.topics[0], lifecyclePartitions, l.produced)
}
