package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestVerifyAcceptsWhatTheAgentWrote: kcagent verify accepts a file of the agent, and
// rejects it if it is given twice.
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
		t.Errorf("verify accepts a file that is given twice:\n%s", out)
	}
}
