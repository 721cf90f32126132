// Package systemd has the unit of systemd. Its tests check it with systemd-analyze, and run its
// commands on a real agent with a socket in place of systemd's.
package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
)

const (
	unitFile    = "kcagent.service"
	defaultFile = "kcagent.default"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}

// settings returns the values of the settings in a file of assignments, in their order.
func settings(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			all[name] = append(all[name], value)
		}
	}
	return all
}

// analyze runs systemd-analyze. Without systemd, the test is skipped.
func analyze(t *testing.T, args ...string) (output string) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		loud.Skip(t, tools.Require, "systemd-analyze is not installed (Debian: apt-get install systemd)")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// installed returns the path of a copy of the unit whose binary exists.
func installed(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "kcagent")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, unitFile)
	if err := os.WriteFile(unit, bytes.ReplaceAll(text, []byte("/usr/bin/kcagent"), []byte(binary)), 0o644); err != nil {
		t.Fatal(err)
	}
	return unit
}

// TestSystemdAcceptsTheUnit without a warning, such as of an unknown setting.
func TestSystemdAcceptsTheUnit(t *testing.T) {
	if out := analyze(t, "verify", "--man=no", installed(t)); out != "" {
		t.Errorf("systemd-analyze verify reports\n%s", out)
	}
}

// TestExposureIsLow: the exposure level that systemd-analyze computes is 2.0 at most.
func TestExposureIsLow(t *testing.T) {
	out := analyze(t, "security", "--offline=true", "--threshold=20", unitFile)
	m := regexp.MustCompile(`Overall exposure level for kcagent.service: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no exposure level in\n%s", out)
	}
	if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > 2.0 {
		t.Errorf("the exposure level is %s, %v\n%s", m[1], err, out)
	}
}

// TestUnitHasTheDocumentedSettings: docs/operations.md explains them.
func TestUnitHasTheDocumentedSettings(t *testing.T) {
	unit := settings(t, unitFile)
	for name, want := range map[string]string{
		"Type": "notify", "NotifyAccess": "main", "User": "kcagent", "Group": "kcagent",
		"WatchdogSec": "60s", "TimeoutStopSec": "40s", "KillMode": "mixed", "LimitNOFILE": "524288",
		"Restart": "on-failure", "RestartSec": "5s", "UMask": "0027",
		"StateDirectory": "kcagent", "ConfigurationDirectory": "kcagent",
		"StateDirectoryMode": "0750", "ConfigurationDirectoryMode": "0750",
		"EnvironmentFile": "-/etc/default/kcagent",
		"ExecStart":       "/usr/bin/kcagent run --config=/etc/kcagent/consumers.yaml $ARGS",
		"After":           "network-online.target", "Wants": "network-online.target",
	} {
		if got := unit[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{
		"RestartPreventExitStatus", // a panic of Go exits with 2, too
		"OOMScoreAdjust", "Nice", "MemoryMax",
	} {
		if got, ok := unit[name]; ok {
			t.Errorf("%s is set to %q", name, got)
		}
	}
	// Local users can see the arguments of commands.
	if reload := strings.Join(unit["ExecReload"], "\n"); strings.Contains(reload, "URL") || strings.Contains(reload, "--url") {
		t.Errorf("a reload shows the address, which can contain a password: %s", reload)
	}
	defaults := settings(t, defaultFile)
	if got := defaults["KCAGENT_URL"]; !slices.Equal(got, []string{`"http://127.0.0.1:8080"`}) {
		t.Errorf("KCAGENT_URL is %q", got)
	}
	if len(defaults["ARGS"]) != 1 || len(defaults) != 2 {
		t.Errorf("%s sets %v", defaultFile, defaults)
	}
}
