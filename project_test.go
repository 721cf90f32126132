package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDecisionsNameEveryDependency, and none that is gone.
func TestDecisionsNameEveryDependency(t *testing.T) {
	format := `{{range .Imports}}{{.}}
{{end}}{{range .TestImports}}{{.}}
{{end}}{{range .XTestImports}}{{.}}
{{end}}`
	out, err := exec.Command("go", "list", "-f", format, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	decisions := read(t, "docs/decisions.md")
	_, section, _ := strings.Cut(decisions, "\n## Dependencies\n")
	used := make(map[string]bool)
	for _, m := range regexp.MustCompile("`([a-z.]+\\.[a-z]+/[^`]+)`").FindAllStringSubmatch(section, -1) {
		used[m[1]] = false
	}
	imports := strings.Fields(string(out))
	slices.Sort(imports)
	for _, path := range slices.Compact(imports) {
		if host, _, _ := strings.Cut(path, "/"); !strings.Contains(host, ".") {
			continue // ours, or of the standard library
		}
		known := false
		for module := range used {
			if path == module || strings.HasPrefix(path, module+"/") {
				used[module], known = true, true
			}
		}
		if !known {
			t.Errorf("docs/decisions.md does not say why %s is imported", path)
		}
	}
	for module, is := range used {
		if !is {
			t.Errorf("docs/decisions.md names %s, which nothing imports", module)
		}
	}
}

// TestLinksLead: a link of a document to a file leads to one, and to a heading of a
// document if it names one.
func TestLinksLead(t *testing.T) {
	for _, page := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(read(t, page), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(filepath.Dir(page), file)
			if file == "" {
				target = page
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// anchors are what GitHub names the headings of a page.
func anchors(page string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func TestCheckScript(t *testing.T) {
	info, err := os.Stat(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&0o111 == 0 {
		t.Error(".ci/run is not executable")
	}
	if bash, err := exec.LookPath("bash"); err != nil {
		t.Log("no bash here to read .ci/run")
	} else if out, err := exec.Command(bash, "-n", ".ci/run").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	script := read(t, ".ci/run")
	for _, want := range []string{"set -euo pipefail", "KCAGENT_REQUIRE_KAFKA=1 go test -race -count=1", "gofumpt@v", "go vet ./...", "staticcheck@"} {
		if !strings.Contains(script, want) {
			t.Errorf(".ci/run does not do %q", want)
		}
	}
}

// TestMakefile: each target is declared as one, and the packages that the
// recipes name exist.
func TestMakefile(t *testing.T) {
	makefile := read(t, "Makefile")
	phony := strings.Fields(regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindStringSubmatch(makefile)[1])
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, m[1])
	}
	if !slices.Equal(phony, targets) {
		t.Errorf(".PHONY is %v, the targets are %v", phony, targets)
	}
	for _, m := range regexp.MustCompile(`go test .* \./([a-z0-9]+)`).FindAllStringSubmatch(makefile, -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Error(err)
		}
	}
}
