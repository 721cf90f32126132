package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	// The go command builds the tested program, so the test binary does not depend on it.
	// With this import, a change of the program invalidates the cached results of tests.
	_ "kcagent/cli"
)

// A binary is built once per process.
type binary struct {
	race    bool
	version string // linked, as in a release; empty for none
	once    sync.Once
	path    string // empty if it was not built
	err     error
}

// NextVersion is the version of the kcagent that [Next] returns.
const NextVersion = "99.0.0"

var (
	tested   = &binary{race: raceEnabled}
	next     = &binary{race: raceEnabled, version: NextVersion}
	released = &binary{}
)

// Binary returns the path of the kcagent that is tested. The first call builds it, with the
// race detector if the tests run with it.
func Binary(t testing.TB) string {
	t.Helper()
	return tested.get(t)
}

// Next returns the path of a second kcagent, of the same source code, which reports another
// version: an upgrade for tests. The first call links it, which takes seconds.
func Next(t testing.TB) string {
	t.Helper()
	return next.get(t)
}

// ReleasedBinary returns the path of a kcagent that is built as it is released: static, and
// without the race detector.
func ReleasedBinary(t testing.TB) string {
	t.Helper()
	return released.get(t)
}

func (b *binary) get(t testing.TB) string {
	t.Helper()
	b.once.Do(func() { b.path, b.err = build(b.race, b.version) })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// RemoveBinary removes the built binaries. TestMain calls it after the tests.
func RemoveBinary() {
	for _, b := range []*binary{tested, next, released} {
		if b.path != "" {
			_ = os.RemoveAll(filepath.Dir(b.path)) // a temporary folder
		}
	}
}

func build(race bool, version string) (path string, err error) {
	dir, err := os.MkdirTemp("", "kcagent-bin-")
	if err != nil {
		return "", fmt.Errorf("create folder for the binary: %w", err)
	}
	path = filepath.Join(dir, "kcagent")
	args := []string{"build", "-o", path}
	cgo := "CGO_ENABLED=0" // as it is released
	if race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	if version != "" {
		args = append(args, "-ldflags=-X kcagent/cli.linked="+version)
	}
	cmd := exec.Command("go", append(args, "kcagent")...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("build kcagent: %w\n%s", err, out)
	}
	return path, nil
}
