package docs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kcagent/agent/consumer"
	"kcagent/cli"
	"kcagent/config"
)

// blocks returns the contents of the fenced blocks of a language.
func blocks(text, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// firstScreen is how many lines a reader sees before scrolling.
const firstScreen = 30

func TestFirstScreen(t *testing.T) {
	lines := strings.SplitN(read(t, "README.md"), "\n", firstScreen+1)
	screen := strings.Join(lines[:firstScreen], "\n")
	for _, want := range []string{"\ngo run . demo", "\ngo test ./...", "state: running", `msg="change planned" action=resume`} {
		if !strings.Contains(screen, want) {
			t.Errorf("the first screen does not show %q", strings.TrimSpace(want))
		}
	}
}

// TestMistakeInTheReadmeHasItsRealPlace: the misspelt key is in the sample of the demo where
// the message in the README says.
func TestMistakeInTheReadmeHasItsRealPlace(t *testing.T) {
	before, _, _ := strings.Cut(read(t, "demo/consumers.yaml.tmpl"), "topics: [audit]")
	line, column := strings.Count(before, "\n")+1, len(before)-strings.LastIndex(before, "\n")
	want := fmt.Sprintf("consumers.yaml:%d:%d: consumers[2].topcs: unknown key", line, column)
	if !strings.Contains(read(t, "README.md"), want) {
		t.Errorf("the message would be %s", want)
	}
}

// completeFile matches a block that is a whole file of the agent, not a part of one.
var completeFile = regexp.MustCompile(`(?m)^consumers:`)

// TestFilesInDocumentsAreValid: each complete file that a page shows. The README, and the
// page that explains the file, show nothing else.
func TestFilesInDocumentsAreValid(t *testing.T) {
	for page, text := range documents(t) {
		files := blocks(text, "yaml")
		if page != "README.md" && page != "docs/configuration.md" {
			files = slices.DeleteFunc(files, func(file string) bool { return !completeFile.MatchString(file) })
		} else if len(files) == 0 {
			t.Errorf("%s shows no file", page)
		}
		for _, file := range files {
			if _, problems := config.Parse(page, []byte(file), os.LookupEnv); len(problems) > 0 {
				t.Errorf("%v\nin\n%s", problems, file)
			}
		}
	}
}

// TestSampleFileIsValid, as shipped and with its example uncommented.
func TestSampleFileIsValid(t *testing.T) {
	shipped := read(t, "consumers.yaml")
	head, example, _ := strings.Cut(shipped, "consumers: []\n")
	opened := head + "consumers:\n" + regexp.MustCompile(`(?m)^#`).ReplaceAllString(example, "")
	for text, want := range map[string]int{shipped: 0, opened: 1} {
		c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if len(problems) > 0 {
			t.Errorf("%v\nin\n%s", problems, text)
		} else if len(c.Consumers) != want {
			t.Errorf("%d consumers, want %d, in\n%s", len(c.Consumers), want, text)
		}
	}
}

var inlineCode = regexp.MustCompile("`[^`\n]+`")

// invocation matches a command line, and a command in running text.
var invocation = regexp.MustCompile("(?m)^ *(?:#- |# )?(?:kcagent|go run \\.) ([a-z].*)$|`kcagent ([a-z][^`\n]*)`")

// TestCommandsInDocumentsExist: every command and flag that the documents show.
func TestCommandsInDocumentsExist(t *testing.T) {
	seen := make(map[string]bool)
	pages := documents(t)
	pages["consumers.yaml"] = read(t, "consumers.yaml")
	delete(pages, "docs/cli.md") // is generated from the commands
	for file, text := range pages {
		if strings.HasSuffix(file, ".md") {
			text = strings.Join(append(blocks(text, "[a-z]*"), inlineCode.FindAllString(text, -1)...), "\n")
		}
		for _, m := range invocation.FindAllStringSubmatch(text, -1) {
			line, _, _ := strings.Cut(m[1]+m[2], "#")
			words := strings.Fields(line)
			seen[words[0]] = true
			help := runHelp(t, words[0], "--help")
			for _, w := range words[1:] {
				flag, _, _ := strings.Cut(w, "=")
				if strings.HasPrefix(w, "--") && flag != "--help" && !strings.Contains(help, "\n  "+flag+" ") {
					t.Errorf("%s shows kcagent %s, which has no %s", file, line, flag)
				}
			}
		}
	}
	var usage bytes.Buffer
	cli.Run([]string{"help"}, &usage, io.Discard)
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(usage.String(), -1) {
		if !seen[m[1]] {
			t.Errorf("the command %s is in no document", m[1])
		}
	}
}

// TestStatesAreDocumented: each state of a consumer has a row in a table.
func TestStatesAreDocumented(t *testing.T) {
	for _, s := range consumer.States {
		found := false
		for _, text := range documents(t) {
			found = found || strings.Contains(text, "\n| `"+string(s)+"` |")
		}
		if !found {
			t.Errorf("the state %s has no row in a table", s)
		}
	}
}

// TestMetricsInDocumentsExist: each metric that a page shows is on the generated page.
func TestMetricsInDocumentsExist(t *testing.T) {
	exist := read(t, "docs/metrics.md")
	for file, text := range documents(t) {
		if file == "CHANGELOG.md" {
			continue // names what existed in a former version
		}
		for _, m := range regexp.MustCompile(`\bkcagent_[a-z_]*[a-z]\b`).FindAllString(text, -1) {
			if !strings.Contains(exist, "`"+m+"`") {
				t.Errorf("%s shows %s, which does not exist", file, m)
			}
		}
	}
}
