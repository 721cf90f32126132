package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"kcagent/cli"
	"kcagent/cli/command"
	"kcagent/e2e/loud"
)

// manPages returns the manual pages by their file names below docs: one for the program and
// one for each command.
func manPages(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	for _, c := range append([]*cobra.Command{newTree()}, newTree().Commands()...) {
		if c.Hidden {
			continue
		}
		pages["man/"+manName(c)+".1"] = manPage(t, c)
	}
	return pages
}

// newTree returns the commands; each page changes its own.
func newTree() *cobra.Command {
	root := cli.New()
	command.Prepare(root)
	return root
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage returns the manual page of a command.
func manPage(t *testing.T, c *cobra.Command) string {
	t.Helper()
	c.DisableAutoGenTag = true // and no date, so that the page depends on the commands only
	c.Long = indentCode(strings.TrimSpace(c.Long))
	if c.HasParent() {
		c.Long += "\n\n# EXIT STATUS\n"
		for code, meaning := range command.ExitCodes(c) {
			c.Long += fmt.Sprintf("\n**%d**\n\n: %s\n", code, meaning)
		}
	} else {
		c.Short = "run the Kafka consumers that one YAML file declares" // follows the name
		c.Long += "\n\n# COMMANDS\n"
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				c.Long += fmt.Sprintf("\n**%s**(1)\n\n: %s\n", manName(sub), sub.Short)
			}
		}
		c.Long += environment
	}
	c.InitDefaultHelpFlag()
	if err := c.Flags().MarkHidden("help"); err != nil { // every command has it, and its value is of no use
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := doc.GenMan(c, &doc.GenManHeader{Title: strings.ToUpper(manName(c)), Section: "1", Source: "kcagent", Manual: "kcagent"}, &b); err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^(\.TH \S+ \S+) "[^"]*"`).ReplaceAllString(b.String(), `$1 ""`)
}

const environment = `
# ENVIRONMENT

**NO_COLOR**

: no colours on a terminal

**GOMEMLIMIT**

: overrides the memory limit of the cgroup

**HTTP_PROXY**, **HTTPS_PROXY**, **NO_PROXY**

: are used by the commands that send requests to a running agent

**SSL_CERT_FILE**

: the certificates of the authorities that these commands accept

# FILES

**consumers.yaml**

: the configuration file, unless --config names another
`

// indentCode indents the lines that help shows with two spaces by four, which is code in
// Markdown.
func indentCode(text string) string {
	return regexp.MustCompile(`(?m)^  `).ReplaceAllString(text, "      ")
}

// TestManPagesAreOfCommands: no page is left of a command that was removed.
func TestManPagesAreOfCommands(t *testing.T) {
	files, err := filepath.Glob("man/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	pages := manPages(t)
	for _, file := range files {
		if _, ok := pages[file]; !ok {
			t.Errorf("docs/%s is of no command: remove it", file)
		}
	}
}

// TestManPagesRender: man shows each page without a warning, with its sections.
func TestManPagesRender(t *testing.T) {
	if _, err := exec.LookPath("man"); err != nil {
		loud.Skip(t, "KCAGENT_REQUIRE_TOOLS", "man is not installed")
	}
	for file := range manPages(t) {
		cmd := exec.Command("man", "--warnings=all", "--encoding=UTF-8", "--local-file", filepath.Join(".", file))
		cmd.Env = append(os.Environ(), "MANWIDTH=90", "LC_ALL=C.UTF-8", "MANROFFOPT=-Wall", "MAN_KEEP_FORMATTING=", "PAGER=cat")
		var out, warnings bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &warnings
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("man %s: %v\n%s", file, err, warnings.String())
		}
		want := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLE", "SEE ALSO"}
		if file == "man/kcagent.1" {
			want = []string{"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ENVIRONMENT", "FILES", "OPTIONS", "SEE ALSO"}
		}
		var sections []string
		for line := range strings.Lines(out.String()) {
			if line == strings.ToUpper(line) && regexp.MustCompile(`^[A-Z]`).MatchString(line) && !strings.Contains(line, "(1)") {
				sections = append(sections, strings.TrimSpace(line))
			}
		}
		for _, w := range want {
			if !slices.Contains(sections, w) {
				t.Errorf("%s has the sections %q without %s:\n%s", file, sections, w, out.String())
			}
		}
	}
}

// TestGeneratorIsNotPartOfTheProgram: only this package imports it.
func TestGeneratorIsNotPartOfTheProgram(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "kcagent").Output()
	if err != nil {
		t.Fatal(err)
	}
	if deps := strings.Fields(string(out)); !slices.Contains(deps, "github.com/spf13/cobra") || slices.Contains(deps, "github.com/spf13/cobra/doc") {
		t.Error("the program does not import cobra, or imports its generator")
	}
}
