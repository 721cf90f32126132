// Package docs holds the documentation. Its tests generate the reference pages
// from the code, and compare them with the files: a setting, flag, metric or
// field that is added or changed makes them fail until the pages are generated
// again, with
//
//	go generate ./docs
//
// [TestReferencePages] is where to start reading.
package docs

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"kcagent/cli"
)

//go:generate go test -count=1 -run "^(TestSizingTableAgreesWithTheFigures|TestReferencePages)$" -update .

var update = flag.Bool("update", false, "write the generated pages instead of comparing them")

// actAsProgram makes the test binary behave as kcagent, so that the pages show what
// a process of its own serves and prints.
const actAsProgram = "KCAGENT_DOCS_ACT_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(actAsProgram) != "" {
		os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestReferencePages: each generated page is what the code says.
func TestReferencePages(t *testing.T) {
	agent := startDemo(t)
	type page struct {
		file   string
		render func(*testing.T) string
	}
	pages := []page{
		{"configuration.md", configurationPage},
		{"cli.md", cliPage},
		{"metrics.md", func(t *testing.T) string { return metricsPage(t, agent) }},
		{"http-api.md", func(t *testing.T) string { return httpPage(t, agent) }},
		{"log-messages.md", logMessagesPage},
		{"status.schema.json", func(*testing.T) string { return statusSchema() }},
		{"performance.md", performancePage},
	}
	for file, text := range manPages(t) {
		pages = append(pages, page{file, func(*testing.T) string { return text }})
	}
	for _, page := range pages {
		t.Run(page.file, func(t *testing.T) {
			want := page.render(t)
			if t.Failed() {
				return
			}
			if *update {
				if err := os.WriteFile(page.file, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			have, err := os.ReadFile(page.file)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if !bytes.Equal(have, []byte(want)) {
				t.Errorf("docs/%s differs from the code; to generate it again, run: go generate ./docs\n%s",
					page.file, lineDiff(string(have), want))
			}
		})
	}
}

// generated is the first line of each generated page.
const generated = "<!-- Generated from the code by `go generate ./docs`; edit the code instead. -->\n\n"

// lineDiff shows the lines that only one of two texts has, in order. It is not the
// shortest difference, which needs no tool here: the pages are tables and lists.
func lineDiff(have, want string) string {
	inHave, inWant := lineSet(have), lineSet(want)
	var b strings.Builder
	for line := range strings.Lines(have) {
		if !inWant[line] {
			fmt.Fprintf(&b, "- %s", line)
		}
	}
	for line := range strings.Lines(want) {
		if !inHave[line] {
			fmt.Fprintf(&b, "+ %s", line)
		}
	}
	if b.Len() == 0 {
		return "the order of the lines differs"
	}
	return b.String()
}

func lineSet(text string) map[string]bool {
	set := make(map[string]bool)
	for line := range strings.Lines(text) {
		set[line] = true
	}
	return set
}

// cell makes a text fit into a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
}
