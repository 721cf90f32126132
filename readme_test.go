package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"kcagent/agent"
	"kcagent/cli"
	"kcagent/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks are the contents of the fenced blocks of a language.
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
	for _, want := range []string{"\ngo run . demo", "\ngo test ./...", "state: running", "msg=change action=resume"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the first screen does not show %q", strings.TrimSpace(want))
		}
	}
}

// TestMistakeIsShownAsItIs: the sample of the demo has the misspelt key where
// the README's message says.
func TestMistakeIsShownAsItIs(t *testing.T) {
	before, _, _ := strings.Cut(read(t, "demo/consumers.yaml.tmpl"), "topics: [audit]")
	line, column := strings.Count(before, "\n")+1, len(before)-strings.LastIndex(before, "\n")
	want := fmt.Sprintf("consumers.yaml:%d:%d: consumers[2].topcs: unknown key", line, column)
	if !strings.Contains(read(t, "README.md"), want) {
		t.Errorf("the message would be %s", want)
	}
}

// TestFilesInTheReadmeAreGood: the README, and the page that explains the file, show
// complete files.
func TestFilesInTheReadmeAreGood(t *testing.T) {
	for _, page := range []string{"README.md", "docs/configuration.md"} {
		files := blocks(read(t, page), "yaml")
		if len(files) == 0 {
			t.Fatalf("%s shows no file", page)
		}
		for _, file := range files {
			if _, problems := config.Parse(page, []byte(file), os.LookupEnv); len(problems) > 0 {
				t.Errorf("%v\nin\n%s", problems, file)
			}
		}
	}
}

// documents lists the pages that a test of all pages reads.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("docs has no pages", err)
	}
	return append(pages, "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")
}

// TestSampleFileIsGood: as it is shipped, and with its example taken in.
func TestSampleFileIsGood(t *testing.T) {
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

// invocation matches a command line in a code block, and a command with flags
// in running text.
var invocation = regexp.MustCompile("(?m)^ *(?:#- |# )?(?:kcagent|go run \\.) ([a-z].*)$|`kcagent ([a-z][^`\n]*)`")

// TestCommandsExist: every command and flag that the documents show.
func TestCommandsExist(t *testing.T) {
	seen := make(map[string]bool)
	for _, file := range append(documents(t), "consumers.yaml") {
		for _, m := range invocation.FindAllStringSubmatch(read(t, file), -1) {
			line, _, _ := strings.Cut(m[1]+m[2], "#")
			words := strings.Fields(line)
			seen[words[0]] = true
			help := help(t, file, words[0])
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

func help(t *testing.T, file, command string) string {
	t.Helper()
	var out, err bytes.Buffer
	if code := cli.Run([]string{command, "--help"}, &out, &err); code != 0 {
		t.Errorf("%s shows kcagent %s: --help exits with %d, %s", file, command, code, err.String())
	}
	return out.String()
}

// TestFlagsOfRunAreWhole: the table has each flag, with its default.
func TestFlagsOfRunAreWhole(t *testing.T) {
	readme := read(t, "docs/cli.md")
	flags := regexp.MustCompile(`(?m)^  (--[a-z.-]+).*?(?:\(default (\S+)\))?$`).FindAllStringSubmatch(help(t, "docs/cli.md", "run"), -1)
	if len(flags) == 0 {
		t.Fatal("run has no flags")
	}
	for _, f := range flags {
		row := "| `" + f[1] + "` | "
		if f[2] != "" {
			row += "`" + f[2] + "` |"
		}
		if !strings.Contains(readme, row) {
			t.Errorf("no row begins with %s", row)
		}
	}
}

// TestKeysAreWhole: every key that this version obeys is in a table, and every
// key that it refuses is named as such.
func TestKeysAreWhole(t *testing.T) {
	readme := read(t, "docs/configuration.md")
	_, refused, _ := strings.Cut(readme, "\nNot there yet: ")
	refused, _, _ = strings.Cut(refused, "\n")
	var schema block
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	top := schema.Properties
	for title, b := range map[string]block{
		"consumers, defaults": *top["consumers"].Items, "clusters": *top["clusters"].Entries.block, "limits": top["limits"],
	} {
		_, section, found := strings.Cut(readme, "\n## "+title+"\n")
		if !found {
			t.Fatalf("no section is named %q", title)
		}
		section, _, _ = strings.Cut(section, "\n##")
		for _, key := range b.leaves("") {
			inTable := regexp.MustCompile("(?m)^\\| [^|]*`" + regexp.QuoteMeta(key) + "`").MatchString(section)
			isRefused := slices.ContainsFunc(append(strings.Split(key, "."), key), func(name string) bool {
				return strings.Contains(refused, "`"+name+"`")
			})
			if inTable == isRefused {
				t.Errorf("%s: %s stands in the table: %v, among what is not there yet: %v", title, key, inTable, isRefused)
			}
		}
	}
}

// A block is what we need of a JSON Schema.
type block struct {
	Properties map[string]block `json:"properties"`
	Items      *block           `json:"items"`
	Entries    entries          `json:"additionalProperties"`
}

// entries are a schema, or false.
type entries struct{ *block }

func (e *entries) UnmarshalJSON(text []byte) error {
	if string(text) == "false" {
		return nil
	}
	e.block = new(block)
	return json.Unmarshal(text, e.block)
}

func (b block) leaves(path string) []string {
	if len(b.Properties) == 0 {
		return []string{path}
	}
	var keys []string
	for name, p := range b.Properties {
		if path != "" {
			name = path + "." + name
		}
		keys = append(keys, p.leaves(name)...)
	}
	slices.Sort(keys)
	return keys
}

func TestStatesAreWhole(t *testing.T) {
	readme := read(t, "docs/operations.md")
	for _, s := range agent.States {
		if !strings.Contains(readme, "| `"+string(s)+"` |") {
			t.Errorf("the state %s has no row", s)
		}
	}
}

// TestPagesExist asks an agent, whose loop does not run, for every page of the
// table; only an unknown path is answered by "no such page". It runs in a
// bubble, for one of them waits for the loop.
func TestPagesExist(t *testing.T) {
	paths := regexp.MustCompile("`(/[^`]*)`").FindAllStringSubmatch(read(t, "docs/http-api.md"), -1)
	if len(paths) < 5 {
		t.Fatalf("found %v", paths)
	}
	synctest.Test(t, func(t *testing.T) {
		h := agent.New(agent.Options{Log: slog.New(slog.DiscardHandler)}).Handler()
		for _, p := range paths {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, strings.ReplaceAll(p[1], "{name}", "orders"), http.NoBody))
			if strings.Contains(w.Body.String(), "no such page") {
				t.Errorf("%s does not exist", p[1])
			}
		}
	})
}

// TestMetricsAreWhole reads the names from the source: a metric without a
// consumer is not scraped.
func TestMetricsAreWhole(t *testing.T) {
	source := read(t, "agent/metrics.go") + read(t, "agent/stats.go") + read(t, "agent/agent.go")
	exist := make(map[string]bool)
	for _, m := range regexp.MustCompile(`describeMetric\("([a-z_]+)"|Name: +"kcagent_([a-z_]+)"`).FindAllStringSubmatch(source, -1) {
		exist["kcagent_"+m[1]+m[2]] = true
	}
	name := regexp.MustCompile("`(kcagent_[a-z_]+)`")
	for _, page := range documents(t) {
		for _, m := range name.FindAllStringSubmatch(read(t, page), -1) {
			if !exist[m[1]] {
				t.Errorf("%s shows %s, which does not exist", page, m[1])
			}
		}
	}
	shown := make(map[string]bool)
	for _, m := range name.FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		shown[m[1]] = true
	}
	for name := range exist {
		if !shown[name] {
			t.Errorf("docs/metrics.md does not show %s", name)
		}
	}
}
