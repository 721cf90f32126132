package docs

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"kcagent/cli"
)

// cliPage is what the program prints about itself.
func cliPage(t *testing.T) string {
	overview := runHelp(t, "help")
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString(cliIntro)
	commands := regexp.MustCompile(`(?m)^  ([a-z]+) +(\S.*)$`).FindAllStringSubmatch(overview, -1)
	if len(commands) == 0 {
		t.Fatalf("kcagent help lists no commands:\n%s", overview)
	}
	b.WriteString("\n| command | what it does |\n|---|---|\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "| [`kcagent %s`](#kcagent-%s) | %s |\n", c[1], c[1], cell(c[2]))
	}
	for _, c := range commands {
		fmt.Fprintf(&b, "\n## kcagent %s\n\n```text\n%s\n```\n", c[1], strings.TrimSpace(runHelp(t, c[1], "--help")))
	}
	return b.String()
}

func runHelp(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := cli.Run(args, &stdout, &stderr); code != 0 {
		t.Fatalf("kcagent %v exits with %d: %s", args, code, stderr.String())
	}
	return stdout.String()
}

const cliIntro = `# The command line

Each command prints the text below with ` + "`--help`" + `. Every setting is a flag.

- **Output.** Results go to stdout, everything else to stderr. Colours appear only on a terminal, and not if ` + "`NO_COLOR`" + ` is set.
- **Exit codes.** 0 success, 1 failure, 2 invalid usage or configuration; ` + "`plan`" + ` has its own.
- **Proxies.** The commands that send requests to a running agent use ` + "`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`" + `. A user and password for the HTTP API are part of ` + "`--url`" + `, or of the environment variable ` + "`KCAGENT_URL`" + `, which replaces its default. Local users can see command lines, but not the environment of other users.
- **Memory.** ` + "`GOMEMLIMIT`" + ` overrides the memory limit of the cgroup.
`
