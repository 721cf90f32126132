package docs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"kcagent/config"
)

// blocksOf returns the code blocks of a page in a language.
func blocksOf(page, language string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// TestObjectsPageHasValidFiles: the configurations and policies of the page can be copied.
func TestObjectsPageHasValidFiles(t *testing.T) {
	page := read(t, "docs/objects.md")
	files := blocksOf(page, "yaml")
	for _, text := range files {
		if _, problems := config.Parse("objects.md", []byte(text), func(string) (string, bool) { return "", false }); len(problems) > 0 {
			t.Errorf("%v\n%s", problems, text)
		}
	}
	policies := blocksOf(page, "json")
	for _, text := range policies {
		if !json.Valid([]byte(text)) {
			t.Errorf("not JSON:\n%s", text)
		}
	}
	if len(files) < 2 || len(policies) != 2 {
		t.Errorf("the page has %d configurations and %d policies", len(files), len(policies))
	}
}

// TestObjectsPageHasEachPermission: the policy on the page grants what errors of the store name.
func TestObjectsPageHasEachPermission(t *testing.T) {
	policy := blocksOf(read(t, "docs/objects.md"), "json")[0]
	found := regexp.MustCompile(`"(s3:[A-Z]\w+)"`).FindAllStringSubmatch(read(t, "sink/objects/s3/explain.go"), -1)
	for _, m := range found {
		if !strings.Contains(policy, m[0]) {
			t.Errorf("the policy does not grant %s", m[1])
		}
	}
	if len(found) < 5 {
		t.Errorf("the store names only %v", found)
	}
}

// TestObjectsPageComputesCosts: the example follows from the formula.
func TestObjectsPageComputesCosts(t *testing.T) {
	page := read(t, "docs/objects.md")
	for _, every := range []int{10, 60} { // minutes
		perDay := 24*60/every + 24
		objects := 100 * perDay * 30
		costs := float64(objects) * (0.005 + 2*0.0004) / 1000
		for _, want := range []string{
			fmt.Sprintf("%d + 24 = %d", perDay-24, perDay),
			fmt.Sprintf("%d,%03d objects", objects/1000, objects%1000),
			fmt.Sprintf("%.2f $", costs),
		} {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not have %q", want)
			}
		}
	}
}
