package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"kcagent/agent"
	"kcagent/cli/command"
	"kcagent/config"
	"kcagent/e2e/wait"
)

const planHave = `
clusters:
  main: {brokers: ["localhost:1"], tls: {}, sasl: {mechanism: PLAIN, username: u, password: "swordfish"}}
defaults: {cluster: main, topics: [t], sink: {file: {path: "/tmp/$$kcagent-plan/{name}.log"}}}
consumers:
- {name: same, state: stopped}
- {name: paused, state: stopped, flush: {interval: 1s}}
- {name: moved, state: stopped}
- {name: gone, state: stopped}
`

const planWant = `
clusters:
  renamed: {brokers: ["localhost:1"], tls: {}, sasl: {mechanism: PLAIN, username: u, password: "swordfish"}}
  main: {brokers: ["localhost:1"], tls: {}, sasl: {mechanism: PLAIN, username: u, password: "swordfish"}}
defaults: {cluster: main, topics: [t], sink: {file: {path: "/tmp/$$kcagent-plan/{name}.log"}}}
consumers:
- {name: new, cluster: renamed}
- {name: moved, state: stopped, group: other, sink: {file: {path: /tmp/elsewhere.log}}}
- {name: paused, state: paused, flush: {interval: 2s}}
- {name: same, state: stopped, cluster: main}
`

// running starts an agent in this process that has applied a file.
func running(t *testing.T, text string) (url string) {
	t.Helper()
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if problems != nil {
		t.Fatal(problems)
	}
	a := agent.New(agent.Options{Log: slog.New(slog.DiscardHandler)})
	updates := make(chan config.Update)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx, updates) }()
	updates <- config.Update{Path: "consumers.yaml", SHA256: "x", Config: c, At: time.Now()}
	server := httptest.NewServer(a.Handler())
	t.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	wait.For(t, wait.Timeout, "the agent to apply the configuration", func() error {
		if code, out, stderr := kcagent(t, "plan", "--config", writeFile(t, text), "--url", server.URL); code != command.Success {
			return fmt.Errorf("exit %d: %s%s", code, out, stderr)
		}
		return nil
	})
	return server.URL
}

func TestPlanShowsChangesAndTheirCost(t *testing.T) {
	url, want := running(t, planHave), writeFile(t, planWant)
	code, out, stderr := kcagent(t, "plan", "--config", want, "--url", url)
	if code != exitChanges || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	golden(t, "plan.txt", out)
	code, out, _ = kcagent(t, "plan", "--config", want, "--url", "")
	if code != exitChanges {
		t.Errorf("from nothing: exit %d", code)
	}
	golden(t, "plan-from-nothing.txt", out)
	code, out, _ = kcagent(t, "plan", "--config", want, "--url", url, "--output", "json")
	if code != exitChanges || !json.Valid([]byte(out)) {
		t.Errorf("json: exit %d", code)
	}
	golden(t, "plan.json", out)
	if code, out, stderr = kcagent(t, "plan", "--config", writeFile(t, planHave), "--url", url); code != command.Success || out != "no changes; 4 consumers untouched\n" {
		t.Errorf("the same file: exit %d: %s%s", code, out, stderr)
	}
	coloured := comparePlan(&config.Config{}, &config.Config{Consumers: []config.Consumer{{Name: "a"}}}).text(true)
	if !strings.HasPrefix(coloured, "\x1b[32m+ create") {
		t.Errorf("coloured: %q", coloured)
	}
}

// TestPlanShowsSettingsOfTheAgent: a change of log_level is a change of the agent that
// touches no consumer.
func TestPlanShowsSettingsOfTheAgent(t *testing.T) {
	url, want := running(t, planHave), writeFile(t, "log_level: debug\n"+planHave)
	code, out, stderr := kcagent(t, "plan", "--config", want, "--url", url)
	if text := "~ log_level  cost: none  (from unset to debug)\n1 setting; 4 consumers untouched\n"; code != exitChanges || out != text || stderr != "" {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	_, out, _ = kcagent(t, "plan", "--config", want, "--url", url, "--output", "json")
	golden(t, "plan-settings.json", out)
	url = running(t, "log_level: warn\n"+planHave)
	if code, out, _ := kcagent(t, "plan", "--config", writeFile(t, planHave), "--url", url); code != exitChanges || !strings.Contains(out, "(from warn to unset)") {
		t.Errorf("removed: exit %d: %s", code, out)
	}
	if code, out, _ := kcagent(t, "plan", "--config", writeFile(t, "log_level: warn\n"+planHave), "--url", url); code != command.Success {
		t.Errorf("the same level: exit %d: %s", code, out)
	}
}

// TestPlanShowsLimits: an edit of the limits alone is a change of the agent, and a limit that
// is written with its default is none.
func TestPlanShowsLimits(t *testing.T) {
	url := running(t, planHave)
	want := writeFile(t, "limits: {max_removed_percent: 50, max_batch: 8MiB}\n"+planHave)
	code, out, stderr := kcagent(t, "plan", want, "--url", url)
	if text := "~ limits.max_removed_percent  cost: none  (from 100 to 50)\n~ limits.max_batch  cost: none  (from 128MiB to 8MiB)\n2 settings; 4 consumers untouched\n"; code != exitChanges || out != text || stderr != "" {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	want = writeFile(t, "limits: {max_consumers: 2000, max_removed_percent: 100}\n"+planHave)
	if code, out, stderr := kcagent(t, "plan", want, "--url", url); code != command.Success {
		t.Errorf("the defaults: exit %d: %s%s", code, out, stderr)
	}
}

// TestPlanWarnsOfATakeover: a new entry writes to the file of a removed one, with another
// group.
func TestPlanWarnsOfATakeover(t *testing.T) {
	url := running(t, planHave)
	want := writeFile(t, strings.ReplaceAll(planHave, "name: gone,", "name: renamed, sink: {file: {path: /tmp/$$kcagent-plan/gone.log}},"))
	code, out, stderr := kcagent(t, "plan", "--config", want, "--url", url)
	if code != exitChanges || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	golden(t, "plan-takeover.txt", out)
	_, out, _ = kcagent(t, "plan", "--config", want, "--url", url, "--output", "json")
	golden(t, "plan-takeover.json", out)
}

// TestPlanComparesSecrets: another password causes a replace, and no password is printed.
func TestPlanComparesSecrets(t *testing.T) {
	url := running(t, planHave)
	other := writeFile(t, strings.ReplaceAll(planHave, "swordfish", "swordfisk"))
	code, out, stderr := kcagent(t, "plan", "--config", other, "--url", url)
	if code != exitChanges || strings.Count(out, "sasl.password") != 4 || strings.Contains(out+stderr, "swordfis") {
		t.Errorf("exit %d:\n%s%s", code, out, stderr)
	}
}

func TestPlanErrorsExitWith1(t *testing.T) {
	url := running(t, planHave)
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"--config", writeFile(t, bad), "--url", url}, "topcs"},
		{[]string{"--config", "/no/such/file", "--url", url}, "file not found"},
		{[]string{"--config", writeFile(t, good), "--url", "http://127.0.0.1:1"}, "check that it runs"},
		{[]string{"--config", writeFile(t, good), "--url", "nonsense"}, "--url"},
		{[]string{"--nonsense"}, "nonsense"},
		{[]string{"--config", writeFile(t, "limits: {max_removed_percent: 50}\n"+good), "--url", url}, "would terminate 4 of 4 consumers"},
	} {
		code, out, stderr := kcagent(t, append([]string{"plan"}, c.args...)...)
		if code != command.Failure || out != "" || !strings.Contains(stderr, c.text) {
			t.Errorf("%q: exit %d: %s%s", c.args, code, out, stderr)
		}
	}
}
