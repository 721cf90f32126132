package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kcagent runs a command line in this process.
func kcagent(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Run(args, &out, &err)
	return code, out.String(), err.String()
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "consumers.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	good = "consumers:\n- {name: a, brokers: ['localhost:1'], topics: [t], sink: {stdout: {}}}\n"
	bad  = "consumers:\n- {name: a, brokers: ['localhost:1'], topcs: [t], sink: {stdout: {}}}\n"
)

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	code, out, _ := kcagent(t, "help")
	if code != exitGood {
		t.Errorf("help exits with %d", code)
	}
	for _, c := range commands() {
		if !strings.Contains(out, "\n  "+c.name+" ") {
			t.Errorf("help does not name %s", c.name)
		}
		code, help, stderr := kcagent(t, c.name, "--help")
		if code != exitGood || stderr != "" || !strings.Contains(help, c.example) {
			t.Errorf("%s --help exits with %d, prints\n%s%s", c.name, code, help, stderr)
		}
	}
}

// TestExamplesParse: every flag that an example shows is one the command has.
func TestExamplesParse(t *testing.T) {
	for _, c := range commands() {
		_, help, _ := kcagent(t, c.name, "--help")
		for _, word := range strings.Fields(c.example) {
			if name, ok := strings.CutPrefix(word, "--"); ok && !strings.Contains(help, "\n  --"+name+" ") {
				t.Errorf("the example of %s uses --%s, which it does not have", c.name, name)
			}
		}
	}
}

func TestWrongUsageIsExit2(t *testing.T) {
	f := func(args ...string) {
		t.Helper()
		code, out, stderr := kcagent(t, args...)
		if code != exitUsage || stderr == "" || out != "" {
			t.Errorf("kcagent %v exits with %d, stdout %q, stderr %q", args, code, out, stderr)
		}
	}
	f()
	f("nothing")
	f("run", "--nothing")
	f("run", "leftover")
	f("run", "--log-level", "loud")
	f("run", "--log-format", "xml")
	f("run", "--shutdown-timeout", "soon")
	f("validate", "--output", "xml")
	f("version", "please")
}

func TestVersion(t *testing.T) {
	if code, out, _ := kcagent(t, "version"); code != exitGood || !strings.HasPrefix(out, "kcagent ") {
		t.Errorf("version exits with %d, prints %q", code, out)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	code, out, _ := kcagent(t, "schema")
	if code != exitGood || !json.Valid([]byte(out)) || !strings.Contains(out, `"topics"`) {
		t.Errorf("schema exits with %d, prints %.100q", code, out)
	}
}

func TestValidate(t *testing.T) {
	path := writeFile(t, good)
	if code, out, stderr := kcagent(t, "validate", "--config", path); code != exitGood || out != "" || !strings.Contains(stderr, "1 consumer") {
		t.Errorf("good: exit %d, stdout %q, stderr %q", code, out, stderr)
	}
	path = writeFile(t, bad)
	code, out, _ := kcagent(t, "validate", "--config", path)
	if code != exitUsage || !strings.HasPrefix(out, path+":2:") || !strings.Contains(out, `"topics"`) {
		t.Errorf("bad: exit %d, stdout %q", code, out)
	}
	code, out, _ = kcagent(t, "validate", "--config", path, "--output", "json")
	var result struct {
		Valid    bool
		Problems []struct{ Line, Column int }
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != exitUsage || result.Valid || result.Problems[0].Line != 2 {
		t.Errorf("bad as JSON: exit %d, %v, stdout %s", code, err, out)
	}
	if code, out, _ := kcagent(t, "validate", "--config", "/nowhere/consumers.yaml"); code != exitUsage || !strings.Contains(out, "/nowhere/consumers.yaml") {
		t.Errorf("missing: exit %d, stdout %q", code, out)
	}
}

func TestValidateOnlineNamesWhatCannotBeReached(t *testing.T) {
	path := writeFile(t, good) // port 1 on this host refuses
	code, out, _ := kcagent(t, "validate", "--config", path, "--online")
	if code != exitUsage || !strings.HasPrefix(out, path+":2:") || !strings.Contains(out, "localhost:1") {
		t.Errorf("exit %d, stdout %q", code, out)
	}
}

func TestRunRefusesABadFirstFile(t *testing.T) {
	path := writeFile(t, bad)
	code, out, stderr := kcagent(t, "run", "--config", path, "--listen", "127.0.0.1:0")
	if code != exitUsage || out != "" || !strings.Contains(stderr, path+":2:") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, stderr)
	}
}

func TestRunTellsThatThePortIsTaken(t *testing.T) {
	path := writeFile(t, good)
	code, _, stderr := kcagent(t, "run", "--config", path, "--listen", "256.0.0.1:1")
	if code != exitFailure || !strings.Contains(stderr, "256.0.0.1:1") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestHealthNeedsAnAgent(t *testing.T) {
	code, _, stderr := kcagent(t, "health", "--url", "http://127.0.0.1:1")
	if code != exitFailure || stderr == "" {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

// TestRunEndsWithItsServer: an agent that nobody can see is not what was asked
// for, so a bad --web.config.file ends it, after the consumers were stopped.
func TestRunEndsWithItsServer(t *testing.T) {
	path := writeFile(t, "consumers: []\n")
	code, _, stderr := kcagent(t, "run", "--config", path, "--listen", "127.0.0.1:0", "--web.config.file", "/nowhere/web.yaml")
	if code != exitFailure || !strings.Contains(stderr, "/nowhere/web.yaml") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}
