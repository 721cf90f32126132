package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	// What is tested is built by the go command, out of sight of the test
	// binary. Linked in, it makes the cached result of a test end with the
	// code that the result is about.
	_ "kcagent/cli"
)

// A binary is built once a process.
type binary struct {
	race bool
	once sync.Once
	path string // "" if it was not built
	err  error
}

var (
	tested   = &binary{race: raceEnabled}
	released = &binary{}
)

// Binary is the path of the built kcagent. It is built once a process, with
// the race detector if the tests run with it.
func Binary(t testing.TB) string {
	t.Helper()
	return tested.get(t)
}

func (b *binary) get(t testing.TB) string {
	t.Helper()
	b.once.Do(func() { b.path, b.err = build(b.race) })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// RemoveBinary removes what was built, if anything was. TestMain calls it after
// the tests.
func RemoveBinary() {
	for _, b := range []*binary{tested, released} {
		if b.path != "" {
			_ = os.RemoveAll(filepath.Dir(b.path)) // a temporary folder
		}
	}
}

func build(race bool) (path string, err error) {
	dir, err := os.MkdirTemp("", "kcagent-bin-")
	if err != nil {
		return "", fmt.Errorf("make folder for the binary: %w", err)
	}
	path = filepath.Join(dir, "kcagent")
	args := []string{"build", "-o", path}
	cgo := "CGO_ENABLED=0" // as it is released
	if race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, "kcagent")...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("build kcagent: %w\n%s", err, out)
	}
	return path, nil
}
