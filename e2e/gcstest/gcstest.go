// Package gcstest starts fake-gcs-server, an emulator of Google Cloud Storage.
package gcstest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/tools"
	"kcagent/e2e/wait"
)

// program is fake-gcs-server. Conditional uploads in parts work since version 1.55.
const program = "github.com/fsouza/fake-gcs-server@v1.56.1"

// Start starts a server that ends with the test, and returns its endpoint. Objects are in memory.
// It has no permissions, and ignores credentials. If the program cannot be built, the test is
// skipped with a notice.
func Start(t testing.TB) (endpoint string) {
	t.Helper()
	port := strconv.Itoa(kafkatest.FreePort(t))
	endpoint = "http://127.0.0.1:" + port
	cmd := exec.Command(tools.Go(t, program), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", port,
		"-public-host", "127.0.0.1:"+port, "-external-url", endpoint, "-log-level", "error")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	wait.For(t, wait.Timeout, "fake-gcs-server", func() error {
		resp, err := client.Get(endpoint + "/_internal/healthcheck")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return endpoint
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// CreateBucket creates a bucket.
func CreateBucket(t testing.TB, endpoint, name string) {
	t.Helper()
	resp, err := client.Post(endpoint+"/storage/v1/b", "application/json", strings.NewReader(fmt.Sprintf(`{"name":%q}`, name)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("create bucket %s: %s", name, resp.Status)
	}
}
