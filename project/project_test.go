// Package project tests the repository itself: its layout, the image, the Makefile and the
// script of all checks. All of its tests run in the root of the module.
package project

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"kcagent/cli"
)

func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// help returns what a command prints with --help; file is where the command is used.
func help(t *testing.T, file, command string) string {
	t.Helper()
	var out, err bytes.Buffer
	if code := cli.Run([]string{command, "--help"}, &out, &err); code != 0 {
		t.Errorf("%s shows kcagent %s: --help exits with %d, %s", file, command, code, err.String())
	}
	return out.String()
}
