// Package loud skips tests in a way that a person sees.
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

// Skip skips the test and says why, once a process, where a person sees it. With
// the environment variable require set to 1 it fails the test instead: for CI,
// which must not skip in silence.
func Skip(t testing.TB, require, why string) {
	t.Helper()
	if os.Getenv(require) == "1" {
		t.Fatalf("%s=1, but %s", require, why)
	}
	line := "SKIPPED: " + why
	if _, said := said.LoadOrStore(line, true); !said {
		shout(line)
	}
	t.Skip(line)
}

var said sync.Map

// shout prints line to stderr. The go command hides what a passing package
// prints, there too, so the line goes to the go command's own stderr where the
// system lets us find that.
func shout(line string) {
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
