package docs

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A demoAgent is a running `kcagent demo`: an agent with three consumers, one of them
// paused, on an embedded broker, and a stopped one with an objects sink.
type demoAgent struct{ url string }

// startDemo runs the demo until the test ends. It returns once the consumers have
// read and flushed records, so that every metric has a value.
func startDemo(t *testing.T) demoAgent {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := exec.Command(self, "demo", "--dir", dir, "--listen", "127.0.0.1:0", "--log-level", "warn")
	cmd.Env = append(os.Environ(), actAsProgram+"=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("kcagent demo: %v", err)
		}
	})
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url := address.FindString(lines.Text()); url != "" {
			a := demoAgent{url}
			addArchive(t, dir)
			a.waitForRecords(t)
			return a
		}
	}
	t.Fatal("kcagent demo does not print the address of its HTTP API")
	return demoAgent{}
}

// archive is the name of the consumer with an objects sink.
const archive = "archive"

// addArchive adds a consumer to the sample file of a demo.
func addArchive(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "consumers.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "\n  - {name: %s, topics: [audit], state: stopped, sink: {objects: {url: 'file://%s/objects'}}}\n", archive, dir)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a demoAgent) waitForRecords(t *testing.T) {
	t.Helper()
	const timeout = time.Minute
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(a.url + "/readyz")
		if err != nil {
			continue // not listening yet
		}
		resp.Body.Close()
		metrics := a.get(t, "/metrics").body
		flushed := regexp.MustCompile(`kcagent_consumer_flush_duration_seconds_count\{consumer="orders"\} [1-9]`)
		committed := regexp.MustCompile(`kcagent_consumer_commit_duration_seconds_count\{consumer="orders"\} [1-9]`)
		if resp.StatusCode == http.StatusOK && flushed.MatchString(metrics) && committed.MatchString(metrics) &&
			strings.Contains(metrics, `kcagent_partition_next_offset{consumer="audit"`) &&
			strings.Contains(metrics, `kcagent_objects_total{consumer="`+archive+`"}`) &&
			strings.Contains(metrics, `kcagent_consumer_sink_free_bytes{consumer="orders"}`) {
			return
		}
	}
	t.Fatalf("the demo's consumers have flushed no record within %s", timeout)
}

// A response is what the agent answered.
type response struct {
	status int
	header http.Header
	body   string
}

func (a demoAgent) get(t *testing.T, path string) response { return a.request(t, http.MethodGet, path) }

func (a demoAgent) request(t *testing.T, method, path string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(fmt.Errorf("read %s: %w", path, err))
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}
