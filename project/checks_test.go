package project

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCheckScriptRunsAllChecks(t *testing.T) {
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
	for _, want := range []string{"set -euo pipefail", "KCAGENT_REQUIRE_KAFKA=1 go test -race -count=1", "KCAGENT_REQUIRE_PROMETHEUS=1", "KCAGENT_REQUIRE_BROWSER=1", "packages+=(chromium)", "gofumpt@v", "go vet ./...", "staticcheck@"} {
		if !strings.Contains(script, want) {
			t.Errorf(".ci/run does not do %q", want)
		}
	}
}

// TestMakefileTargetsAndPackagesExist: each target is declared as phony, and the packages that
// the recipes name exist.
func TestMakefileTargetsAndPackagesExist(t *testing.T) {
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
