package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestVerifyAcceptsWhatTheAgentWrote proves what the agent wrote with the agent's own command.
func TestVerifyAcceptsWhatTheAgentWrote(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "proof", 3)
	e := s.entry("proof", topic).withFormat("json")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 3, Count: 5000})
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 15_000)
	out, err := exec.Command(agenttest.Binary(t), "verify", e.path).CombinedOutput()
	if err != nil || strings.Count(string(out), " 4999 ") != 3 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(agenttest.Binary(t), "verify", e.path, e.path).CombinedOutput(); err == nil {
		t.Errorf("a trail that stands there twice is good:\n%s", out)
	}
}
