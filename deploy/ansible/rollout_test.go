package ansible

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// consumer is the entry of a consumer with more settings, as pairs.
func consumer(more ...any) map[string]any {
	c := map[string]any{"name": "orders", "topics": []string{"orders"}}
	for i := 0; i < len(more); i += 2 {
		c[more[i].(string)] = more[i+1]
	}
	return c
}

// TestRoleRollsOutHostByHost rolls out files to two hosts, one after the other. The first
// gets the binary and the service from the role, on the second something else provides them.
func TestRoleRollsOutHostByHost(t *testing.T) {
	t.Parallel()
	s := &scenario{rollout: newRollout(t, "first", "second"), binary: filepath.Join(t.TempDir(), "kcagent")}
	s.first, s.second = s.hosts[0], s.hosts[1]
	copyBinary(t, s.binary, "")
	s.extra["first"] = map[string]any{"kcagent_install": "binary", "kcagent_binary": s.binary}
	s.extra["second"] = map[string]any{"kcagent_manage_service": false}
	install(t, s.second)

	s.step("a fresh host in check mode", s.checkFreshHost)
	s.step("without an agent", s.rollOutWithoutAgent)
	s.step("the first roll-out", s.rollOutFirst)
	s.step("again", s.rollOutAgain)
	s.step("an edit in check mode", s.checkEdit)
	s.step("an invalid file", s.rollOutInvalid)
	s.step("a file that cannot take effect", s.rollOutInVain)
	s.step("without the restoration", s.rollOutInVainWithoutRestoration)
	s.step("an edit together with a new binary", s.rollOutEditAndBinary)
	for _, secret := range []string{urlPassword, filePassword, envPassword, yamlPassword} {
		if strings.Contains(s.printed.String(), secret) {
			t.Errorf("Ansible has printed %s", secret)
		}
	}
}

// A scenario is a sequence of roll-outs to two hosts.
type scenario struct {
	*rollout
	first, second *host
	binary        string           // on the controller, for the first host
	before        map[*host]string // the identity of the consumer after the first roll-out
	generation    int32            // on the first host
}

// wantSame requires that no roll-out has touched the consumers of some hosts.
func (s *scenario) wantSame(hosts ...*host) {
	s.t.Helper()
	for _, h := range hosts {
		if is := identity(h.consumer("orders")); is != s.before[h] {
			s.t.Errorf("the consumer on %s was touched: it was %s and is %s", h.name, s.before[h], is)
		}
	}
}

func (s *scenario) checkFreshHost(t *testing.T) {
	before := s.files()
	output := s.succeed(s.config(consumer()), "--check", "--diff", "-v", "--limit", "first")
	want(t, output, "kcagent is not installed on this host yet")
	s.wantFiles(before)
	s.wantCalls("")
}

// rollOutWithoutAgent rolls out a first file to the second host, where no agent runs. Then the
// agent starts, without consumers again.
func (s *scenario) rollOutWithoutAgent(t *testing.T) {
	output := s.succeed(s.config(consumer()), "--limit", "second")
	want(t, output, "no agent ran at kcagent_url before the file was written, and kcagent_manage_service is false: nothing was waited for")
	if text, err := os.ReadFile(s.second.path("etc/kcagent/consumers.yaml")); !strings.Contains(string(text), "name: orders") {
		t.Errorf("the file is %q, %v", text, err)
	}
	install(t, s.second)
	if err := s.second.start(); err != nil {
		t.Fatal(err)
	}
}

func (s *scenario) rollOutFirst(t *testing.T) {
	s.succeed(s.config(consumer()))
	s.before = make(map[*host]string)
	s.generation = s.first.consumer("orders").Generation
	for _, h := range s.hosts {
		c := h.consumer("orders")
		if c.Status != "RUNNING" {
			t.Errorf("on %s, the consumer is %s", h.name, c.Status)
		}
		s.before[h] = identity(c)
		h.wantMode("etc/kcagent/consumers.yaml", 0o640)
		h.wantMode("etc/kcagent/secrets/kafka-password", 0o640)
		if text, err := os.ReadFile(h.path("etc/kcagent/secrets/kafka-password")); string(text) != filePassword {
			t.Errorf("on %s, the secret is %q, %v", h.name, text, err)
		}
	}
	s.wantCalls("daemon-reload, start kcagent, enable kcagent")
}

func (s *scenario) rollOutAgain(t *testing.T) {
	files := s.files()
	output := s.succeed(s.config(consumer()), "-vvv")
	want(t, recap(output), "first changed=0 failed=0, second changed=0 failed=0")
	s.wantFiles(files)
	s.wantCalls("")
	s.wantSame(s.hosts...)
}

// edit is a configuration that changes the consumer and adds another one.
func (s *scenario) edit() map[string]any {
	return s.config(consumer("state", "paused"), consumer("name", "audit", "topics", []string{"audit"}))
}

func (s *scenario) checkEdit(t *testing.T) {
	files := s.files()
	output := s.succeed(s.edit(), "--check", "--diff", "-v")
	want(t, recap(output), "first changed=1 failed=0, second changed=1 failed=0")
	plan := `"~ pause  orders  cost: none  (state)",` + "\n"
	if strings.Count(output, plan) != 2 {
		t.Error("the output does not show the plan of both hosts")
	}
	s.wantFiles(files)
	s.wantSame(s.hosts...)
}

func (s *scenario) rollOutInvalid(t *testing.T) {
	files := s.files()
	output := s.fail(s.config(consumer("state", "asleep")))
	want(t, output, "consumers.yaml:", `consumers[0].state: invalid value \"asleep\"`)
	want(t, recap(output), "first changed=0 failed=1")
	s.wantStopped(output)
	s.wantFiles(files)
	s.wantSame(s.hosts...)
}

// wantStopped requires that nothing ran on the second host.
func (s *scenario) wantStopped(output string) {
	s.t.Helper()
	if strings.Contains(output, "[second]") {
		s.t.Error("the roll-out went on to the second host")
	}
}

// away is a valid configuration that cannot take effect: nothing listens at its brokers.
func (s *scenario) away() map[string]any {
	c := s.config(consumer())
	clusters := maps.Clone(c["clusters"].(map[string]any))
	clusters["main"] = map[string]any{"brokers": []string{"127.0.0.1:1"}}
	c["clusters"] = clusters
	return c
}

func (s *scenario) rollOutInVain(t *testing.T) {
	files := s.files()
	s.extra["first"]["kcagent_timeout"] = "4s"
	output := s.fail(s.away())
	want(t, output, "replace of", "connection refused", "the previous file is restored and in force")
	want(t, recap(output), "first changed=2 failed=1")
	s.wantStopped(output)
	s.wantContent(files)
	s.wantSame(s.hosts...)
}

func (s *scenario) rollOutInVainWithoutRestoration(t *testing.T) {
	s.extra["first"]["kcagent_rollback"] = false
	output := s.fail(s.away())
	want(t, output, "connection refused", "the new file stays")
	want(t, recap(output), "first changed=1 failed=1")
	s.wantStopped(output)
	if s.first.consumer("orders").PendingChange == nil {
		t.Error("the first host has no pending change")
	}
	s.wantSame(s.hosts...)
}

// rollOutEditAndBinary rolls out a new binary to the first host, and the edit to both. The
// second one gets it from a template.
func (s *scenario) rollOutEditAndBinary(t *testing.T) {
	s.extra["first"]["kcagent_timeout"] = "60s"
	copyBinary(t, s.binary, "another build")
	template := filepath.Join(t.TempDir(), "consumers.yaml.j2")
	if err := os.WriteFile(template, []byte("{{ content | to_json }}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.extra["second"] = map[string]any{
		"kcagent_manage_service": false,
		"kcagent_config":         map[string]any{}, "kcagent_config_template": template, "content": s.edit(),
	}
	s.succeed(s.edit())
	s.wantCalls("daemon-reload, restart kcagent")
	for _, h := range s.hosts {
		if c, a := h.consumer("orders"), h.consumer("audit"); c.Status != "PAUSED" || a.Status != "RUNNING" {
			t.Errorf("on %s, the consumers are %s and %s", h.name, c.Status, a.Status)
		}
	}
	one, other := s.first.status().Config.AppliedAt, s.second.status().Config.AppliedAt
	if one == nil || other == nil || !one.Before(*other) {
		t.Errorf("the file was applied at %v on the first host, and at %v on the second", one, other)
	}
	s.wantSame(s.second)
	if now := s.first.consumer("orders").Generation; now != s.generation {
		t.Errorf("the restart has caused a rebalance: the generation was %d and is %d", s.generation, now)
	}
}
