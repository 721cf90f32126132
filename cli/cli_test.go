package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"kcagent/cli/command"
	"kcagent/cli/logging"
	"kcagent/config"
)

func TestMain(m *testing.M) {
	if os.Getenv(actAsProgram) != "" {
		os.Exit(Run(os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

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
	if code != command.Success {
		t.Errorf("help exits with %d", code)
	}
	for _, c := range commands(t) {
		if !strings.Contains(out, "\n  "+c.Name()+" ") {
			t.Errorf("help does not name %s", c.Name())
		}
		_, want, _ := kcagent(t, c.Name(), "--help")
		for _, args := range [][]string{{c.Name(), "--help"}, {c.Name(), "-h"}, {c.Name(), "-help"}, {"help", c.Name()}} {
			code, help, stderr := kcagent(t, args...)
			if code != command.Success || stderr != "" || help != want || !strings.Contains(help, c.Example) {
				t.Errorf("kcagent %v exits with %d, prints\n%s%s", args, code, help, stderr)
			}
		}
	}
	for _, args := range [][]string{{"-h"}, {"-help"}, {"--help"}, {"help", "help"}} {
		if code, text, stderr := kcagent(t, args...); code != command.Success || stderr != "" || text == "" {
			t.Errorf("kcagent %v exits with %d, prints\n%s%s", args, code, text, stderr)
		}
	}
}

// commands returns all commands that the overview lists.
func commands(t *testing.T) (all []*cobra.Command) {
	t.Helper()
	root := New()
	command.Prepare(root)
	for _, c := range root.Commands() {
		if !c.Hidden {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no commands")
	}
	return all
}

// TestExamplesUseExistingFlags: every flag that an example shows is one the command has.
func TestExamplesUseExistingFlags(t *testing.T) {
	for _, c := range commands(t) {
		for word := range strings.FieldsSeq(c.Example) {
			if name, ok := strings.CutPrefix(word, "--"); ok && c.Flags().Lookup(name) == nil {
				t.Errorf("the example of %s uses --%s, which it does not have", c.Name(), name)
			}
		}
	}
}

// TestHelpShowsTheJSONOutput: --help names each field of the output, and no other.
func TestHelpShowsTheJSONOutput(t *testing.T) {
	for name, output := range map[string]any{"plan": planReport{Changes: []planned{{}}, Summary: map[string]int{"replace": 1}, Settings: []setting{{}}}, "validate": problemReport{Problems: config.Problems{{}}}} {
		text, err := json.Marshal(output)
		if err != nil {
			t.Fatal(err)
		}
		_, help, _ := kcagent(t, name, "--help")
		field := regexp.MustCompile(`"([a-z]+)":`)
		names := func(text string) []string {
			var found []string
			for _, m := range field.FindAllStringSubmatch(text, -1) {
				found = append(found, m[1])
			}
			return found
		}
		if got, want := names(help), names(string(text)); !slices.Equal(got, want) {
			t.Errorf("%s --help shows the fields %v, the output has %v", name, got, want)
		}
	}
}

func TestInvalidUsageExitsWith2(t *testing.T) {
	f := func(args ...string) {
		t.Helper()
		code, out, stderr := kcagent(t, args...)
		if code != command.Usage || stderr == "" || out != "" {
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
	f("run", "--shutdown-timeout", "-1s")
	f("run", "--listen", "999")
	f("run", "--listen", ":99999")
	f("run", "--web.config.file", "/nowhere/web.yaml")
	f("validate", "--output", "xml")
	f("version", "please")
}

func TestVersionIsPrinted(t *testing.T) {
	for _, arg := range []string{"version", "--version", "-version", "-v"} {
		want := "kcagent " + version() + " ("
		if code, out, stderr := kcagent(t, arg); code != command.Success || !strings.HasPrefix(out, want) || stderr != "" {
			t.Errorf("kcagent %s exits with %d, prints %q, stderr %q", arg, code, out, stderr)
		}
	}
}

func TestSchemaIsJSON(t *testing.T) {
	code, out, _ := kcagent(t, "schema")
	if code != command.Success || !json.Valid([]byte(out)) || !strings.Contains(out, `"topics"`) {
		t.Errorf("schema exits with %d, prints %.100q", code, out)
	}
}

func TestValidatePrintsProblemsToStdout(t *testing.T) {
	path := writeFile(t, good)
	if code, out, stderr := kcagent(t, "validate", "--config", path); code != command.Success || out != "" || !strings.Contains(stderr, "1 consumer") {
		t.Errorf("good: exit %d, stdout %q, stderr %q", code, out, stderr)
	}
	path = writeFile(t, bad)
	code, out, _ := kcagent(t, "validate", "--config", path)
	if code != command.Usage || !strings.HasPrefix(out, path+":2:") || !strings.Contains(out, `"topics"`) {
		t.Errorf("bad: exit %d, stdout %q", code, out)
	}
	code, out, _ = kcagent(t, "validate", "--config", path, "--output", "json")
	var result struct {
		Valid    bool
		Problems []struct{ Line, Column int }
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != command.Usage || result.Valid || result.Problems[0].Line != 2 {
		t.Errorf("bad as JSON: exit %d, %v, stdout %s", code, err, out)
	}
	code, out, stderr := kcagent(t, "validate", "--config", "/nowhere/consumers.yaml")
	if code != command.Usage || !strings.HasPrefix(out, "/nowhere/consumers.yaml: ") || !strings.Contains(out, "correct the path") || stderr != "kcagent validate: /nowhere/consumers.yaml: 1 problem\n" {
		t.Errorf("missing: exit %d, stdout %q, stderr %q", code, out, stderr)
	}
}

func TestValidateOnlineReportsUnreachableBrokers(t *testing.T) {
	path := writeFile(t, good) // port 1 on this host rejects connections
	code, out, _ := kcagent(t, "validate", "--config", path, "--online")
	if code != command.Usage || !strings.HasPrefix(out, path+":2:") || !strings.Contains(out, "localhost:1") {
		t.Errorf("exit %d, stdout %q", code, out)
	}
}

func TestRunRejectsAnInvalidFirstFile(t *testing.T) {
	path := writeFile(t, bad)
	code, out, stderr := kcagent(t, "run", "--config", path, "--listen", "127.0.0.1:0")
	if code != command.Usage || out != "" || !strings.Contains(stderr, path+":2:") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, stderr)
	}
}

func TestRunReportsAnAddressInUse(t *testing.T) {
	path := writeFile(t, good)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	code, _, stderr := kcagent(t, "run", "--config", path, "--listen", l.Addr().String())
	if code != command.Failure || !strings.Contains(stderr, l.Addr().String()) {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

// TestPasswordsInURLsAreHidden: errors show the URL without its password.
func TestPasswordsInURLsAreHidden(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	at := strings.Replace(server.URL, "://", "://admin:hunter2@", 1)
	for _, args := range [][]string{
		{"status", "--url", at},
		{"plan", "--config", writeFile(t, good), "--url", at},
		{"health", "--url", "http://admin:hunter2@127.0.0.1:1"},
		{"health", "--url", "ftp://admin:hunter2@host"},
		{"health", "--url", "http://admin:hunter2@host:port"},
	} {
		code, out, stderr := kcagent(t, args...)
		if code == command.Success || stderr == "" || strings.Contains(out+stderr, "hunter2") {
			t.Errorf("%v exits with %d and says %s%s", args, code, out, stderr)
		}
	}
}

// TestURLOfTheEnvironment: KCAGENT_URL replaces the default of --url, not its value.
func TestURLOfTheEnvironment(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			_, _ = io.WriteString(w, "{}")
		}
	}))
	t.Cleanup(server.Close)
	file := writeFile(t, "consumers: []\n")
	for _, c := range []struct {
		variable string
		args     []string
		code     int
		stderr   string
	}{
		{server.URL, []string{"health"}, command.Success, ""},
		{server.URL, []string{"status"}, command.Success, ""},
		{"http://127.0.0.1:1", []string{"plan", file}, command.Failure, "reach the agent at http://127.0.0.1:1"},
		{"http://127.0.0.1:1", []string{"plan", file, "--url", ""}, command.Success, ""},
		{"http://127.0.0.1:1", []string{"health", "--url", server.URL}, command.Success, ""},
		{"127.0.0.1:9000", []string{"health"}, command.Usage, `kcagent health: read KCAGENT_URL: invalid --url "127.0.0.1:9000": use http://127.0.0.1:9000`},
		{"ftp://admin:hunter2@host", []string{"status"}, command.Usage, `read KCAGENT_URL: invalid --url "ftp://admin:xxxxx@host"`},
	} {
		t.Setenv("KCAGENT_URL", c.variable)
		code, out, stderr := kcagent(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("KCAGENT_URL=%s %v exits with %d and says %s%s", c.variable, c.args, code, out, stderr)
		}
	}
}

func TestHealthFailsWithoutAnAgent(t *testing.T) {
	code, _, stderr := kcagent(t, "health", "--url", "http://127.0.0.1:1")
	if code != command.Failure || stderr == "" {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

// TestRunEndsIfItsServerFails: an agent without its HTTP API cannot be monitored, so the end
// of the server ends it, after the consumers were stopped.
func TestRunEndsIfItsServerFails(t *testing.T) {
	err := runAgent(t.Context(), runOptions{
		config: writeFile(t, "consumers: []\n"), listen: "127.0.0.1:0", webConfig: "/nowhere/web.yaml", log: logging.New(io.Discard, "info", false),
	})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/web.yaml") {
		t.Errorf("it ends with %v", err)
	}
}
