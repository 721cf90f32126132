package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kcagent/cli/command"
)

// TestMistakesSayWhatToWriteInstead: wrong usage is one line on stderr, after the name of the
// command, and nothing on stdout.
func TestMistakesSayWhatToWriteInstead(t *testing.T) {
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	file := writeFile(t, good)
	t.Chdir(t.TempDir()) // has no consumers.yaml
	writeNamed(t, "web.yaml", "tls_server_config: x\n")
	if err := syscall.Mkfifo("pipe", 0o600); err != nil { // a command that opens it blocks
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"runn", command.Usage, `kcagent: unknown command "runn"; did you mean kcagent run?`},
		{"runn --config x", command.Usage, `kcagent: unknown command "runn"; did you mean kcagent run?`},
		{"HELP", command.Usage, `kcagent: unknown command "HELP"; did you mean kcagent help?`},
		{"nonsense", command.Usage, `kcagent: unknown command "nonsense"; see kcagent help`},
		{"help runn", command.Usage, `kcagent help: unknown command "runn"; did you mean kcagent run?`},
		{"help run plan", command.Usage, `kcagent help: unexpected argument "plan"; see kcagent help --help`},
		{"start", command.Usage, "kcagent: unknown command \"start\": set `state: running` in the file; the running agent applies the edit"},
		{"pause orders", command.Usage, "kcagent: unknown command \"pause\": set `state: paused` in the file; the running agent applies the edit"},
		{"stop", command.Usage, "kcagent: unknown command \"stop\": set `state: stopped` in the file; the running agent applies the edit"},
		{"consumers.yaml", command.Usage, `kcagent: unknown command "consumers.yaml"; did you mean kcagent run --config consumers.yaml?`},
		{"run consumers.yaml", command.Usage, `kcagent run: unexpected argument "consumers.yaml"; did you mean --config consumers.yaml?`},
		{"run help", command.Usage, `kcagent run: unexpected argument "help"; see kcagent run --help`},
		{"run --watch false", command.Usage, `kcagent run: unexpected argument "false"; did you mean --watch=false?`},
		{"run --conifg x", command.Usage, `kcagent run: unknown flag --conifg; did you mean --config?`},
		{"run -config x", command.Usage, `kcagent run: unknown flag -config; did you mean --config?`},
		{"run -config=x", command.Usage, `kcagent run: unknown flag -config; did you mean --config?`},
		{"run -c x", command.Usage, `kcagent run: unknown flag -c; did you mean --config?`},
		{"run --nonsense", command.Usage, `kcagent run: unknown flag --nonsense; see kcagent run --help`},
		{"run --version", command.Usage, `kcagent run: unknown flag --version; did you mean kcagent --version?`},
		{"run --=x", command.Usage, `kcagent run: invalid flag "--=x"; see kcagent run --help`},
		{"--watch", command.Usage, `kcagent: unknown flag --watch; did you mean kcagent run --watch?`},
		{"--nonsense", command.Usage, `kcagent: unknown flag --nonsense; see kcagent --help`},
		{"run --config", command.Usage, `kcagent run: missing value of --config: write --config FILE`},
		{"run", command.Usage, `kcagent run: read consumers.yaml: file not found; name yours with --config, or try kcagent demo`},
		{"plan", command.Failure, `kcagent plan: read consumers.yaml: file not found; name yours with --config, or try kcagent demo`},
		{"run --config none.yaml", command.Usage, `kcagent run: read none.yaml: file not found; check the path`},
		{"plan none.yaml", command.Failure, `kcagent plan: read none.yaml: file not found; check the path`},
		{"plan --nonsense", command.Failure, `kcagent plan: unknown flag --nonsense; see kcagent plan --help`},
		{"plan a.yaml b.yaml", command.Failure, `kcagent plan: unexpected argument "b.yaml": name one file`},
		{"validate --config a.yaml b.yaml", command.Usage, `kcagent validate: unexpected argument "b.yaml": --config already names a file`},
		{"run --listen 8080", command.Usage, `kcagent run: invalid --listen "8080": use an address with a port, such as 127.0.0.1:8080 or :8080`},
		{"demo --listen 8080", command.Usage, `kcagent demo: invalid --listen "8080": use an address with a port, such as 127.0.0.1:8080 or :8080`},
		{"run --listen localhost", command.Usage, `kcagent run: invalid --listen "localhost": use an address with a port, such as localhost:8080`},
		{"run --listen http://127.0.0.1:80/", command.Usage, `kcagent run: invalid --listen "http://127.0.0.1:80/": use an address without a scheme, such as 127.0.0.1:80`},
		{"run --listen http://host", command.Usage, `kcagent run: invalid --listen "http://host": use an address with a port, such as 127.0.0.1:8080 or :8080`},
		{"run --listen ::1:80", command.Usage, `kcagent run: invalid --listen "::1:80": use brackets around the host, such as [::1]:8080`},
		{"run --listen :99999", command.Usage, `kcagent run: invalid --listen ":99999": the port must be from 0 to 65535`},
		{"run --listen :port", command.Usage, `kcagent run: invalid --listen ":port": port "port" is not a number`},
		{"run --listen=", command.Usage, `kcagent run: invalid --listen "": use an address with a port, such as 127.0.0.1:8080 or :8080`},
		{"run --config " + file + " --listen " + used.Addr().String(), command.Failure, "kcagent run: listen on " + used.Addr().String() + ": address already in use; use --listen with another port, or stop the program that uses this one"},
		{"run --shutdown-timeout 5", command.Usage, `kcagent run: invalid --shutdown-timeout "5": it has no unit; use a duration such as 5s`},
		{"run --shutdown-timeout soon", command.Usage, `kcagent run: invalid --shutdown-timeout "soon": use a duration such as 25s`},
		{"run --shutdown-timeout=-5s", command.Usage, `kcagent run: invalid --shutdown-timeout -5s: it is negative; use a duration such as 25s`},
		{"run --web.config.file web.yaml", command.Usage, "kcagent run: invalid --web.config.file web.yaml: line 1: cannot unmarshal !!str `x`"},
		{"run --web.config.file none.yaml", command.Usage, `kcagent run: read --web.config.file none.yaml: no such file or directory`},
		{"run --web.config.file pipe", command.Usage, `kcagent run: read --web.config.file pipe: it is a pipe, and each request reads the file again; use a regular file`},
		{"demo --rate many", command.Usage, `kcagent demo: invalid --rate "many": use a whole number`},
		{"demo --duration long", command.Usage, `kcagent demo: invalid --duration "long": use a duration such as 1m`},
		{"status --watch=maybe", command.Usage, `kcagent status: invalid --watch "maybe": use true or false`},
		{"status --output xml", command.Usage, `kcagent status: invalid --output "xml": use text or json`},
		{"status --watch --wait x", command.Usage, `kcagent status: --watch cannot be combined with --wait`},
		{"status --wait pipe --timeout 1ms", command.Usage, `kcagent status: read --wait pipe: read file: not a regular file`},
		{"plan pipe", command.Failure, `pipe: read file: not a regular file`},
		{"status --wait x --timeout=-1s", command.Usage, `kcagent status: invalid --timeout -1s: it is negative; use a duration such as 60s`},
		{"status --wait none.yaml", command.Usage, `kcagent status: read none.yaml: file not found; check the path`},
		{"run --log-level loud", command.Usage, `kcagent run: invalid --log-level "loud": use debug, info, warn or error`},
		{"completion", command.Usage, `kcagent completion: missing shell: use bash, zsh or fish`},
		{"completion ksh", command.Usage, `kcagent completion: unknown shell "ksh": use bash, zsh or fish`},
		{"verify", command.Usage, `kcagent verify: no files: name the files, folders or patterns to verify`},
	} {
		code, out, stderr := kcagent(t, strings.Fields(tt.args)...)
		if code != tt.code || out != "" || stderr != tt.want+"\n" {
			t.Errorf("kcagent %s exits with %d, want %d; stdout %q, stderr\n%swant\n%s", tt.args, code, tt.code, out, stderr, tt.want)
		}
	}
}

// TestFileIsAnArgumentOfValidateAndPlan, as of the checkers of other programs.
func TestFileIsAnArgumentOfValidateAndPlan(t *testing.T) {
	file := writeFile(t, good)
	t.Chdir(filepath.Dir(file))
	for _, args := range [][]string{
		{"validate", "consumers.yaml"},
		{"validate", file, "--output", "json"},
		{"plan", "--url", "", "consumers.yaml"},
		{"plan", "consumers.yaml", "--url", ""},
	} {
		code, out, stderr := kcagent(t, args...)
		if want := map[string]int{"validate": command.Success, "plan": exitChanges}[args[0]]; code != want {
			t.Errorf("kcagent %v exits with %d, prints\n%s%s", args, code, out, stderr)
		}
	}
}

// TestErrorsAreOneLine runs each command into the errors that it can have. Each error is one
// line that begins with the command, and the problems of a file are lines of their own.
func TestErrorsAreOneLine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/private/"):
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/nothing/"):
			http.NotFound(w, r)
		case strings.HasPrefix(r.URL.Path, "/broken/"):
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte(`{"config": "of another program"}`))
		}
	}))
	defer server.Close()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	valid, invalid := writeFile(t, good), writeFile(t, bad)
	t.Chdir(t.TempDir())
	writeNamed(t, "text", "some text\n")
	writeNamed(t, "empty", "")
	writeNamed(t, "broken.gz", "\x1f\x8b\x08nothing")
	writeNamed(t, "web.yaml", "tls_server_config: {cert_file: none.pem, key_file: none.pem}\n")
	files := []string{"none.yaml", ".", "text", "empty", invalid, "/dev/null"}

	var lines [][]string
	for _, c := range commands(t) {
		name := c.Name()
		lines = append(lines, []string{name, "--unknown"}, []string{name, "-unknown"}, []string{name, "-u"}, []string{name, "--=x"}, []string{"help", name, "more"})
		if name != "verify" {
			lines = append(lines, []string{name, "more", "than", "expected"})
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			flag := "--" + f.Name
			switch f.Value.Type() {
			case "string":
				lines = append(lines, []string{name, flag})
			case "bool":
				lines = append(lines, []string{name, flag + "=maybe"})
			default:
				lines = append(lines, []string{name, flag}, []string{name, flag, "wrong"}, []string{name, flag, "-7"})
			}
			switch {
			case f.Name == "url":
				for _, path := range []string{"", "/", "/private", "/nothing", "/broken"} {
					lines = append(lines, []string{name, flag, server.URL + path})
				}
				for _, url := range []string{"http://127.0.0.1:1", "https://" + server.Listener.Addr().String(), "localhost:1", "x", "ftp://x", "http://x/?y", "http://%"} {
					lines = append(lines, []string{name, flag, url})
				}
			case f.Name == "config":
				for _, file := range files {
					lines = append(lines, []string{name, flag, file})
				}
			}
		})
	}
	for i, line := range lines {
		if line[0] == "plan" && !slices.Contains(line, "--config") {
			lines[i] = append(line, "--config", valid)
		}
	}
	for _, address := range []string{"8080", "x", ":x", ":99999", "nowhere.invalid:80", "http://x:80", used.Addr().String(), "192.0.2.1:80"} {
		lines = append(lines, []string{"run", "--config", valid, "--listen", address}, []string{"demo", "--listen", address})
	}
	for _, file := range []string{"none", "text", "empty", ".", "/dev/null", "broken.gz"} {
		lines = append(lines, []string{"verify", file})
	}
	lines = append(lines, []string{"nothing"}, []string{"-x"}, []string{"--x"}, []string{"help", "nothing"}, []string{"pause"}, []string{"text"},
		[]string{"run", "--config", valid, "--web.config.file", "text"}, []string{"run", "--config", valid, "--web.config.file", "."}, []string{"run", "--config", valid, "--web.config.file", "web.yaml"},
		[]string{"demo", "--dir", "text/below", "--listen", "127.0.0.1:0"}, []string{"demo", "--dir", "text", "--listen", "127.0.0.1:0"},
		[]string{"demo", "--dir="}, []string{"verify"}, []string{"verify", "none", "missing"},
		[]string{"status", "--wait", "none"}, []string{"status", "--wait", "text", "--watch"}, []string{"status", "--wait", "text", "--timeout", "1ms"},
		[]string{"plan", valid, "--url", ""}, []string{"validate", valid, "--online"}, []string{"completion", "sh"},
	)
	for _, line := range lines {
		code, _, stderr := kcagent(t, line...)
		if code == command.Success && line[0] != "health" { // which accepts any server
			t.Errorf("kcagent %q succeeds", line)
		}
		checkErrors(t, line, stderr)
	}
}

// oddities are texts that belong to the libraries below the commands.
var oddities = regexp.MustCompile(`(^|[ "(;:])-[a-z]{2}[a-z.]* ?|dial tcp|Get "|parse "|strconv|[^.]yaml: |json: |looking for beginning|flag provided|shorthand|context |lstat |x509: |<nil>|%!|0x`)

// logLine matches what run and demo log before they end. The problems of the file are not
// logged, because they are printed.
var logLine = regexp.MustCompile(`(?m)^time=\S+ level=(INFO|WARN) .*\n`)

// checkErrors reports what is wrong with the stderr of a command line.
func checkErrors(t *testing.T, line []string, stderr string) {
	t.Helper()
	prefix := "kcagent " + line[0] + ": "
	if !slices.ContainsFunc(commands(t), func(c *cobra.Command) bool { return c.Name() == line[0] }) && line[0] != "help" {
		prefix = "kcagent: "
	}
	problem := regexp.MustCompile(`^\S+:(\d+:\d+:)? \S|^  hint: `) // FILE:LINE:COLUMN: KEY: MESSAGE
	missing := strings.Contains(stderr, "missing:\n")              // is a list of kcagent status --wait
	stderr = logLine.ReplaceAllString(stderr, "")
	for text := range strings.Lines(stderr) {
		text = strings.TrimSuffix(text, "\n")
		rest, ok := strings.CutPrefix(text, prefix)
		if !ok && !problem.MatchString(text) && !(missing && strings.HasPrefix(text, "  ")) && !strings.Contains(text, " has no records") {
			t.Errorf("kcagent %q prints the line %q, which does not begin with %q", line, text, prefix)
		}
		if strings.Contains(rest, prefix) || strings.HasPrefix(rest, line[0]+": ") {
			t.Errorf("kcagent %q names the command twice: %q", line, text)
		}
		odd := oddities.FindString(strings.ReplaceAll(text, "flag -u", "flag "))
		if odd != "" {
			t.Errorf("kcagent %q prints %q, in %q", line, odd, text)
		}
	}
	if n := strings.Count(stderr, "\n"); n > 6 {
		t.Errorf("kcagent %q prints %d lines:\n%s", line, n, stderr)
	}
}

func writeNamed(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
