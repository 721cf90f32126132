package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the folder of the module, seen from the tests.
const root = ".."

// read returns the text of a file of the module.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents returns the text of each page that users and developers read, by its path in
// the module.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no page matches %s: %v", pattern, err)
		}
		for _, file := range files {
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			pages[filepath.ToSlash(name)] = read(t, name)
		}
	}
	return pages
}

// TestDecisionsNameEveryDependency, and none that is gone.
func TestDecisionsNameEveryDependency(t *testing.T) {
	format := `{{range .Imports}}{{.}}
{{end}}{{range .TestImports}}{{.}}
{{end}}{{range .XTestImports}}{{.}}
{{end}}`
	out, err := exec.Command("go", "list", "-f", format, "kcagent/...").Output()
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

// TestLinksLeadSomewhere: a link from a document leads to a file of the repository, and to
// a heading of it if the link names one.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := documents(t)
	for page, text := range pages {
		for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(filepath.Dir(page), file)
			if file == "" {
				target = page
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(page string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
