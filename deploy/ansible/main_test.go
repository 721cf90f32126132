// Package ansible tests the role kcagent with the real Ansible. Each host of the tests is a
// folder of this machine with an agent of its own, which reads from an embedded broker.
package ansible

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kcagent/e2e/agenttest"
)

// systemctlURL names the environment variable with the URL of the [systemd] that replaces the
// one of the host.
const systemctlURL = "KCAGENT_TEST_SYSTEMCTL"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "systemctl" {
		os.Exit(systemctl())
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}

// systemctl is what Ansible runs as systemctl: this test binary under another name.
func systemctl() (exitCode int) {
	args := strings.ReplaceAll(strings.Join(os.Args[1:], " "), "'", "")
	resp, err := http.Post(os.Getenv(systemctlURL), "text/plain", strings.NewReader(args))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}
