package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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

// TestBlanksInSecretFilesCauseWarnings: a newline at the end of a file with a secret is
// ignored, and other blanks cause a warning that does not show the secret.
func TestBlanksInSecretFilesCauseWarnings(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"newline": "hunter2\n", "windows": "hunter2\r\n", "blank": "hunter2 \n", "tab": "\thunter2"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "clusters:\n"
	for _, name := range []string{"newline", "windows", "blank", "tab", "missing"} {
		text += fmt.Sprintf("  %s: {brokers: ['localhost:1'], sasl: {mechanism: PLAIN, username: u, password_file: %s}}\n", name, filepath.Join(dir, name))
	}
	path := writeFile(t, text+"consumers: []\n")
	code, _, stderr := kcagent(t, "validate", "--config", path)
	for line, name := range map[int]string{4: "blank", 5: "tab"} {
		where, what := fmt.Sprintf("warning: %s:%d:", path, line), "clusters."+name+".sasl.password_file: the file begins or ends with a blank"
		if !strings.Contains(stderr, where) || !strings.Contains(stderr, what) {
			t.Errorf("stderr lacks %q or %q", where, what)
		}
	}
	if code != command.Success || strings.Count(stderr, "warning: ") != 2 || strings.Contains(stderr, "hunter2") {
		t.Errorf("exit %d, stderr\n%s", code, stderr)
	}
}
