// Package agenttest runs the built kcagent as a process and reads its HTTP API, for tests
// and benchmarks. It relies on the contract of the program only: command line,
// configuration file, signals and HTTP.
package agenttest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// Options configure an agent.
type Options struct {
	// Config is the text of the configuration file, written before the start. If it is
	// empty, the file at Path exists already, or is missing on purpose.
	Config string
	// Path is the path of the configuration file; empty stands for a temporary file.
	Path string
	// Args follow the flags --config and --listen, which Start sets.
	Args []string
	// Released selects the binary as it is released, even if the tests run with the race
	// detector, which needs several times the memory.
	Released bool
	// Binary is the path of another build, instead of the source code of this module.
	Binary string
	// Through is a command that runs the agent, whose command line it gets as arguments.
	Through []string
	// Stdout receives the standard output of the agent; nil discards it.
	Stdout *os.File
	// Stderr receives the log of the agent; nil keeps it for Log, and for the check at the
	// end of the test.
	Stderr *os.File
}

// Ulimit returns a Through that limits the descriptors of the agent.
func Ulimit(n int) []string {
	return []string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(n)}
}

// Without returns a Through that starts the agent with some of the standard streams closed,
// such as 0 and 2.
func Without(streams ...int) []string {
	closed := ""
	for _, s := range streams {
		closed += fmt.Sprintf(" %d>&-", s)
	}
	return []string{"sh", "-c", `exec "$0" "$@"` + closed}
}

// An Agent is a kcagent process. Only the goroutine of the test may call its methods.
type Agent struct {
	// URL is the base of the HTTP API, such as http://127.0.0.1:12345.
	URL string
	// Path is its configuration file.
	Path string

	t      testing.TB
	proc   *process.Process
	log    string
	client *http.Client
}

// Start starts an agent and waits until it responds. At the end of the test, the agent is
// killed if it still runs. Its log must then have no sign of a defect, such as a data race;
// if the test has failed, the end of the log is printed.
func Start(t testing.TB, o Options) *Agent {
	t.Helper()
	a := Launch(t, o)
	wait.For(t, wait.Timeout, "the agent to respond", func() error {
		select {
		case <-a.proc.Done():
			t.Fatalf("the agent ended with exit code %d", a.proc.ExitCode())
		default:
		}
		code, _, err := a.try(http.MethodGet, "/healthz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("GET /healthz: code %d", code)
		}
		return err
	})
	return a
}

// Launch is Start without the wait, for an agent that ends at once.
func Launch(t testing.TB, o Options) *Agent {
	t.Helper()
	bin := o.Binary
	switch {
	case bin != "":
	case o.Released:
		bin = released.get(t)
	default:
		bin = Binary(t)
	}
	dir := t.TempDir()
	a := &Agent{
		t: t, Path: o.Path, log: filepath.Join(dir, "agent.log"),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}},
	}
	if a.Path == "" {
		a.Path = filepath.Join(dir, "consumers.yaml")
	}
	if o.Config != "" {
		a.Write(o.Config)
	}
	addr := "127.0.0.1:" + strconv.Itoa(kafkatest.FreePort(t))
	a.URL = "http://" + addr
	log, err := os.Create(a.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := append(append(append([]string{}, o.Through...), bin, "run", "--config", a.Path, "--listen", addr), o.Args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stderr = dir, log
	if o.Stdout != nil { // a nil file in the interface would mean a closed descriptor
		cmd.Stdout = o.Stdout
	}
	if o.Stderr != nil {
		cmd.Stderr = o.Stderr
	}
	if a.proc, err = process.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.finish)
	return a
}

// finish ends the agent and checks its log.
func (a *Agent) finish() {
	a.proc.Kill()
	a.client.CloseIdleConnections()
	log := a.Log()
	for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: ", "illegal state change"} {
		if _, rest, found := strings.Cut(log, sign); found {
			a.t.Errorf("the agent's log has a %q: %s", sign, rest[:min(len(rest), 4000)])
		}
	}
	if a.t.Failed() {
		const tail = 12 << 10
		a.t.Logf("end of the agent's log:\n%s", log[max(0, len(log)-tail):])
	}
}

// Log returns what the agent has written to stderr.
func (a *Agent) Log() string {
	text, err := os.ReadFile(a.log)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

// Write replaces the configuration file as an editor does: a new file is renamed over it.
func (a *Agent) Write(text string) {
	a.t.Helper()
	if err := os.WriteFile(a.Path+".new", []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(a.Path+".new", a.Path); err != nil {
		a.t.Fatal(err)
	}
}

// Apply writes the configuration file and waits until it is in force: until the agent
// reports its hash, and every consumer is in its desired state or in ERROR.
func (a *Agent) Apply(text string) Status {
	a.t.Helper()
	a.Write(text)
	return a.WaitSynced(text)
}

// WaitSynced waits until a configuration file with this text is in force, as Apply does.
func (a *Agent) WaitSynced(text string) Status {
	a.t.Helper()
	sum := Sum(text)
	return a.WaitStatus("the file to be applied", func(s Status) bool {
		return s.Config.State == "synced" && s.Config.SHA256 == sum && s.Config.FileSHA256 == sum
	})
}

// Sum returns the hash that /status has for a file with this text.
func Sum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Pid returns the process id.
func (a *Agent) Pid() int { return a.proc.Pid() }

// Signal sends a signal to the process.
func (a *Agent) Signal(s os.Signal) { a.proc.Signal(s) }

// Kill ends the process as kill -9 does, and returns when it has ended.
func (a *Agent) Kill() { a.proc.Kill() }

// WaitExit waits until the process has ended and returns its exit code, or -1 if a signal
// ended it.
func (a *Agent) WaitExit(timeout time.Duration) int {
	a.t.Helper()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-a.proc.Done():
	case <-t.C:
		a.t.Fatalf("the agent did not end within %v", timeout)
	}
	return a.proc.ExitCode()
}

// CPUTime returns the CPU time that the process has used, after it has ended.
func (a *Agent) CPUTime() time.Duration { return a.proc.CPUTime() }

// Get requests a page. A request that fails, unlike an HTTP error, fails the test.
func (a *Agent) Get(path string) (code int, body []byte) {
	a.t.Helper()
	code, resp, err := a.try(http.MethodGet, path)
	if err != nil {
		a.t.Fatal(err)
	}
	return code, resp
}

func (a *Agent) try(method, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.URL+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := io.Copy(&body, resp.Body); err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return resp.StatusCode, body.Bytes(), nil
}
