package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/cli/command"
)

// TestValidateWarnsOfATakeover: a file whose checkpoint names another group is a
// warning, which leaves the configuration valid.
func TestValidateWarnsOfATakeover(t *testing.T) {
	dir := t.TempDir()
	groups := map[string]string{
		"renamed.log": "kcagent-former", "same.log": "kcagent-same", "t-0.log": "g", "t-1.log": "g", "u-0.log": "h", "unreadable.log": "",
	}
	for name := range groups {
		if err := os.WriteFile(filepath.Join(dir, name+"+checkpoint"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := groupOf
	defer func() { groupOf = before }()
	groupOf = func(path string) (string, bool) {
		g := groups[filepath.Base(path)]
		return g, g != ""
	}
	text := fmt.Sprintf(`
defaults: {brokers: ['localhost:1'], topics: [t]}
consumers:
- {name: renamed, sink: {file: {path: %[1]s/renamed.log}}}
- {name: same, sink: {file: {path: %[1]s/same.log}}}
- {name: new, sink: {file: {path: %[1]s/new.log}}}
- {name: unreadable, sink: {file: {path: %[1]s/unreadable.log}}}
- {name: many, sink: {file: {path: '%[1]s/{topic}-{partition}.log'}}}
- {name: shown, sink: {stdout: {}}}
`, dir)
	path := writeFile(t, text)
	code, out, stderr := kcagent(t, "validate", "--config", path)
	if code != command.Success || out != "" || strings.Count(stderr, "warning: ") != 2 {
		t.Errorf("exit %d, stdout %q, stderr %q; want two warnings", code, out, stderr)
	}
	for _, want := range []string{
		"warning: " + path + ":4:39: consumers[0].sink.file.path: " + dir + "/renamed.log holds records of group kcagent-former: group kcagent-renamed does not continue there",
		"  hint: set group: kcagent-former to continue",
		"consumers[4].sink.file.path: " + dir + "/t-0.log and 1 other file hold records of group g",
		"valid, 6 consumers",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr is\n%s\nand lacks %q", stderr, want)
		}
	}
	code, out, _ = kcagent(t, "validate", "--config", path, "--output", "json")
	var result struct {
		Valid    bool
		Problems []struct{}
		Warnings []struct {
			Line                int
			Path, Message, Hint string
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != command.Success || !result.Valid || len(result.Problems) != 0 || len(result.Warnings) != 2 || result.Warnings[0].Line != 4 {
		t.Errorf("as JSON: exit %d, %v, %s", code, err, out)
	}
	code, out, _ = kcagent(t, "validate", "--config", writeFile(t, good), "--output", "json")
	if code != command.Success || !strings.Contains(out, `"warnings": []`) {
		t.Errorf("without warnings: exit %d, %s", code, out)
	}
}
