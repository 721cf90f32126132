package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesExistingTests: each test that ARCHITECTURE.md names as the guard of
// a rule exists. A renamed test would leave the rule without a guard that can be found.
func TestArchitectureNamesExistingTests(t *testing.T) {
	page, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	exist := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	eachFile(t, "_test.go", func(_, text string) {
		for _, m := range function.FindAllStringSubmatch(text, -1) {
			exist[m[1]] = true
		}
	})
	_, rules, _ := strings.Cut(string(page), "\n## Rules that span packages\n")
	rules, _, _ = strings.Cut(rules, "\n## ")
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(rules, -1)
	if len(named) < 20 {
		t.Fatalf("the page names only %v", named)
	}
	for _, name := range named {
		if !exist[name] {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", name)
		}
	}
}

// TestFileMapHasEachPackage: a newcomer finds each package in the file map.
func TestFileMapHasEachPackage(t *testing.T) {
	page, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## File map\n")
	section, _, _ = strings.Cut(section, "\n## ")
	seen := map[string]bool{".": true}
	eachFile(t, ".go", func(path, _ string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if !seen[dir] && !strings.Contains(section, "`"+dir+"`") {
			t.Errorf("the file map of ARCHITECTURE.md has no row for the package %s", dir)
		}
		seen[dir] = true
	})
}

// TestDevelopersPagesNameExistingFiles: each package and file that the pages for developers
// name exists. A newcomer follows them.
func TestDevelopersPagesNameExistingFiles(t *testing.T) {
	path := regexp.MustCompile("`((?:agent|bench|cli|config|demo|docs|e2e|examples|fetch|leader|limits|project|retry|sink|verify)/[a-z_/]*(?:\\.go)?)`")
	for _, name := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md"} {
		page, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		found := path.FindAllStringSubmatch(string(page), -1)
		if len(found) < 10 {
			t.Errorf("%s names only %v", name, found)
		}
		for _, m := range found {
			if _, err := os.Stat("../" + m[1]); err != nil {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
}

// eachFile calls found with the path and the text of each file of the module whose name
// has the suffix.
func eachFile(t *testing.T, suffix string, found func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel("..", path)
		found(relative, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
