package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"kcagent/cli/command"
)

const probableMistake = `
clusters:
  main: {brokers: ['localhost:1'], sasl: {mechanism: PLAIN, username: u, password: 'hunter2 '}}
consumers: []
`

// TestWarningsOfTheFileAreShown: validate and plan show what the file may say and its
// author probably did not mean, and exit as without it.
func TestWarningsOfTheFileAreShown(t *testing.T) {
	path := writeFile(t, probableMistake)
	want := "warning: " + path + ":3:84: clusters.main.sasl.password: the value begins or ends with a blank\n  hint: remove the blank if it is not part of the value\n"
	code, out, stderr := kcagent(t, "validate", "--config", path)
	if code != command.Success || out != "" || !strings.HasPrefix(stderr, want) {
		t.Errorf("validate: exit %d, stdout %q, stderr\n%swant\n%s", code, out, stderr, want)
	}
	code, out, stderr = kcagent(t, "plan", "--config", path, "--url", "")
	if code != command.Success || strings.Contains(out, "warning") || stderr != want {
		t.Errorf("plan: exit %d, stdout %q, stderr\n%swant\n%s", code, out, stderr, want)
	}
	code, out, stderr = kcagent(t, "validate", "--config", path, "--output", "json")
	var report problemReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != command.Success || !report.Valid || len(report.Warnings) != 1 || strings.Contains(stderr, "warning") {
		t.Errorf("as JSON: exit %d, %v, %s%s", code, err, out, stderr)
	}
	if report.Warnings[0].Line != 3 || strings.Contains(out, "hunter2") {
		t.Errorf("as JSON: %s", out)
	}
}
