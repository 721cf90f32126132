package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/tools"
)

// requireAnsible, set to 1, makes tests fail that would be skipped without Ansible. CI
// sets it.
const requireAnsible = "KCAGENT_REQUIRE_ANSIBLE"

// ansible returns the folder with Ansible's commands: that of PATH, or else that of a
// Python environment.
func ansible(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("ansible-playbook"); err == nil {
		return filepath.Dir(path)
	}
	return tools.Python(t, requireAnsible, "ansible", "ansible-core>=2.15")
}

// TestAnsiblePlaybookWaitsUntilTheEditIsApplied rolls out configuration files with the
// playbook of examples: valid ones, an invalid one, and one that cannot take effect. The
// playbook succeeds if and only if the edit is in force when it ends.
func TestAnsiblePlaybookWaitsUntilTheEditIsApplied(t *testing.T) {
	t.Parallel()
	kafkatest.Require(t)
	bin := ansible(t)
	s := newScene(t)
	topic := s.newTopic(t, "play", 1)
	path := filepath.Join(t.TempDir(), "consumers.yaml")
	if err := os.WriteFile(path, []byte("consumers: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := agenttest.Start(t, agenttest.Options{Path: path})
	play := func(brokers []string, timeout string, consumers ...map[string]any) (out string, err error) {
		t.Helper()
		return runPlaybook(t, bin, map[string]any{
			"kcagent": agenttest.Binary(t), "kcagent_config": path, "kcagent_url": a.URL, "kcagent_timeout": timeout,
			"kafka_brokers": brokers, "consumers": append([]map[string]any{}, consumers...),
		})
	}
	consumer := func(more ...any) map[string]any {
		c := map[string]any{"name": "played", "topics": []string{topic}, "path": filepath.Join(s.dir, "played.log")}
		for i := 0; i < len(more); i += 2 {
			c[more[i].(string)] = more[i+1]
		}
		return c
	}
	good := func(recap string, consumers ...map[string]any) {
		t.Helper()
		out, err := play(s.Addrs(), "60s", consumers...)
		if err != nil || !strings.Contains(out, recap) {
			t.Fatalf("ansible-playbook: %v, want %q in\n%s", err, recap, out)
		}
	}
	status := func() string { return a.Consumer("played").Status }

	good("changed=1", consumer())
	if status() != "RUNNING" {
		t.Errorf("after the playbook the consumer is %s", status())
	}
	was := identify(t, a.Consumer("played"))
	good("changed=0", consumer())
	good("changed=1", consumer("state", "paused"))
	if status() != "PAUSED" {
		t.Errorf("after the playbook with state paused, the consumer is %s", status())
	}
	wantSame(t, a, "played", was)

	before := a.Status().Config.SHA256
	out, err := play(s.Addrs(), "60s", consumer("state", "asleep"))
	if err == nil || !strings.Contains(out, "asleep") {
		t.Errorf("invalid file: %v\n%s", err, out)
	}
	if now := a.Status().Config; now.SHA256 != before || now.FileSHA256 != before {
		t.Errorf("the invalid file reached the agent: %+v", now)
	}

	out, err = play([]string{fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))}, "3s", consumer())
	if err == nil || !strings.Contains(out, "replace of") || !strings.Contains(out, "connection refused") {
		t.Errorf("file that cannot take effect: %v\n%s", err, out)
	}
	good("changed=1", consumer())
	wantSame(t, a, "played", was)
	good("changed=1")
	if n := len(a.Status().Consumers); n > 0 {
		t.Errorf("%d consumers remain", n)
	}
}

// runPlaybook runs the playbook of examples on this machine. bin is the folder with
// Ansible's commands.
func runPlaybook(t *testing.T, bin string, vars map[string]any) (output string, err error) {
	t.Helper()
	vars["ansible_python_interpreter"] = filepath.Join(bin, "python3")
	text, err := json.Marshal(vars)
	if err != nil {
		t.Fatal(err)
	}
	// The inventory is one host with the name of the group.
	cmd := exec.Command(filepath.Join(bin, "ansible-playbook"), "-i", "kcagent,", "-c", "local", "--extra-vars", string(text), "deploy.yaml")
	cmd.Dir = filepath.Join("..", "examples", "ansible")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCALHOST_WARNING=False", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
