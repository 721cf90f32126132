package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kcagent/e2e/loud"
	"kcagent/e2e/wait"
)

// actAsProgram makes the test binary behave as kcagent, for shells that run it.
const actAsProgram = "KCAGENT_CLI_ACT_AS_PROGRAM"

// requireTools, set to 1, makes tests fail that would be skipped without a shell. CI sets
// it.
const requireTools = "KCAGENT_REQUIRE_TOOLS"

// completionWord is a command line in which the last word is to be completed.
type completionWord struct {
	words []string
	want  []string // without descriptions, in alphabetical order
	not   string   // the shell that completes files itself, after the script
}

// completions are what each shell completes, in a folder with the files consumers.yaml and
// notes.txt and the folder data.
var completions = []completionWord{
	{[]string{"st"}, []string{"status"}, ""},
	{[]string{"v"}, []string{"validate", "verify", "version"}, ""},
	{[]string{"help", "sch"}, []string{"schema"}, ""},
	{[]string{"run", "--shut"}, []string{"--shutdown-timeout"}, ""},
	{[]string{"run", "--log-level", ""}, []string{"debug", "error", "info", "warn"}, ""},
	{[]string{"validate", "--output", "j"}, []string{"json"}, ""},
	{[]string{"run", "--config", "con"}, []string{"consumers.yaml"}, ""},
	{[]string{"run", "--config", "not"}, nil, "fish"}, // which offers all files if none fits
	{[]string{"validate", "con"}, []string{"consumers.yaml"}, ""},
	{[]string{"status", "--wait", "con"}, []string{"consumers.yaml"}, ""},
	{[]string{"verify", "not"}, []string{"notes.txt"}, "bash"},
	{[]string{"demo", "--dir", "da"}, []string{"data"}, ""},
	{[]string{"completion", ""}, []string{"bash", "fish", "zsh"}, ""},
	{[]string{"run", ""}, nil, ""},
}

// TestCompletionDescribesFlagsInPlainText: shells show the descriptions as they are.
func TestCompletionDescribesFlagsInPlainText(t *testing.T) {
	_, out, _ := kcagent(t, "__complete", "run", "--con")
	if !strings.HasPrefix(out, "--config\tconfiguration file\n") {
		t.Errorf("the shell shows\n%s", out)
	}
}

func TestBashCompletes(t *testing.T) {
	const library = "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(library); err != nil {
		loud.Skip(t, requireTools, "the package bash-completion is not installed")
	}
	checkCompletions(t, "bash", []string{"--norc"}, `
. `+library+`
. <(kcagent completion bash)
compopt() { :; } # works only while bash itself completes
COMP_WORDS=(kcagent "$@") COMP_CWORD=$# COMP_LINE="kcagent $*" COMP_TYPE=9
COMP_POINT=${#COMP_LINE}
$(complete -p kcagent | sed 's/.*-F \([^ ]*\).*/\1/') kcagent "${COMP_WORDS[$#]}" "${COMP_WORDS[$#-1]}"
printf '%s\n' "${COMPREPLY[@]}"
`)
}

func TestFishCompletes(t *testing.T) {
	checkCompletions(t, "fish", []string{"--no-config"}, `
kcagent completion fish | source
complete --do-complete "kcagent $argv"
`)
}

// checkCompletions runs a script in a shell for each completion. Its arguments are the words
// after kcagent, and it prints one completion a line.
func checkCompletions(t *testing.T, shell string, options []string, script string) {
	t.Helper()
	for _, c := range completions {
		if c.not == shell {
			continue
		}
		args := append(slices.Clone(options), "-c", script)
		if shell == "bash" {
			args = append(args, "bash") // $0
		}
		var got []string
		for line := range strings.Lines(runShell(t, shell, append(args, c.words...)...)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if name, _, _ = strings.Cut(name, "  "); name != "" {
				got = append(got, strings.TrimSuffix(name, "/"))
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s completes %q with %q, want %q", shell, c.words, got, c.want)
		}
	}
}

// TestZshCompletes types into an interactive zsh: its completion works only there.
func TestZshCompletes(t *testing.T) {
	script := `
zmodload zsh/zpty
zpty shell zsh -f -i
type() { # a line; then waits for a text
	zpty -w -n shell "$1"
	zpty -r shell output "*$2*" || exit 1
	print -r -- "$output"
}
type $'PS1="READY""> "\n' 'READY> '
type $'autoload -U compinit; compinit -u -d dump; . <(kcagent completion zsh)\n' 'READY> '
type $'kcagent vers\t\n' 'kcagent '"$1"'*READY> '
type $'kcagent run --log-level de\t\C-aecho done \C-e\n' 'done kcagent run --log-level debug*READY> '
type $'kcagent run --shut\t5s\C-aecho done \C-e\n' 'done kcagent run --shutdown-timeout 5s*READY> '
type $'kcagent run --config con\t\C-aecho done \C-e\n' 'done kcagent run --config consumers.yaml*READY> '
zpty -d shell
echo all completed
`
	if out := runShell(t, "zsh", "-f", "-c", script, "zsh", version()); !strings.Contains(out, "all completed") {
		t.Errorf("zsh prints\n%s", out)
	}
}

// runShell runs a shell in which kcagent is a command, in a folder with some files, and
// returns its output.
func runShell(t *testing.T, shell string, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a shell takes too long to start for -short")
	}
	path, err := exec.LookPath(shell)
	if err != nil {
		loud.Skip(t, requireTools, shell+" is not installed")
	}
	bin, dir := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "kcagent")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"consumers.yaml", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), actAsProgram+"=1", "HOME="+dir, "TERM=dumb", "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s did not end: %v\n%s", shell, err, out)
	}
	return string(out)
}
