package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	if err := os.WriteFile("web.yaml", []byte("tls: x\n"), 0o600); err != nil {
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
		{"run --web.config.file none.yaml", command.Usage, `kcagent run: read --web.config.file none.yaml: no such file or directory`},
		{"demo --rate many", command.Usage, `kcagent demo: invalid --rate "many": use a whole number`},
		{"demo --duration long", command.Usage, `kcagent demo: invalid --duration "long": use a duration such as 1m`},
		{"status --watch=maybe", command.Usage, `kcagent status: invalid --watch "maybe": use true or false`},
		{"status --output xml", command.Usage, `kcagent status: invalid --output "xml": use text or json`},
		{"status --watch --wait x", command.Usage, `kcagent status: --watch cannot be combined with --wait`},
		{"status --wait none.yaml", command.Usage, `kcagent status: read --wait none.yaml: no such file or directory`},
		{"run --log-level loud", command.Usage, `kcagent run: invalid --log-level "loud": use debug, info, warn or error`},
		{"completion", command.Usage, `kcagent completion: no shell is named: use bash, zsh or fish`},
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
