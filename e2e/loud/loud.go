// Package loud skips tests with a notice that a person sees.
package loud

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// Skip skips the test and prints the reason, once per process and reason. If the environment
// variable require is 1, Skip fails the test instead: CI must not skip tests.
func Skip(t testing.TB, require, why string) {
	t.Helper()
	if os.Getenv(require) == "1" {
		t.Fatalf("%s=1, but %s", require, why)
	}
	line := "SKIPPED: " + why
	if _, printed := printed.LoadOrStore(line, true); !printed {
		notify(line)
	}
	t.Skip(line)
}

var printed sync.Map

// notify prints line to stderr. The go command hides the output of a package that passes,
// so notify writes to the stderr of the go command as well, where the system permits it.
func notify(line string) {
	program := filepath.Base(os.Args[0])
	fmt.Fprintf(os.Stderr, "%s: %s\n", program, line)
	parent := "/proc/" + strconv.Itoa(os.Getppid())
	if name, err := os.ReadFile(parent + "/comm"); err != nil || string(bytes.TrimSpace(name)) != "go" {
		return
	}
	if f, err := os.OpenFile(parent+"/fd/2", os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", program, line)
		_ = f.Close()
	}
}
