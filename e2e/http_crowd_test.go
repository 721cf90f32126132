package e2e

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
)

// TestCrowdDoesNotFailHealthChecks: an agent with few descriptors and many clients that hold
// connections, idle, without a request and with a response that they do not read, is healthy
// by its own health command.
func TestCrowdDoesNotFailHealthChecks(t *testing.T) {
	t.Parallel()
	var config strings.Builder
	config.WriteString("consumers:\n")
	for i := range 1000 {
		fmt.Fprintf(&config, "  - {name: c%d, state: stopped, brokers: ['127.0.0.1:1'], topics: [t], sink: {file: {path: /nowhere/%d}}}\n", i, i)
	}
	a := agenttest.Start(t, agenttest.Options{Config: config.String(), Through: agenttest.Ulimit(256)})
	a.WaitSynced(config.String())
	for _, request := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /status HTTP/1.1\r\nHost: x\r\n", "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"} {
		for range 300 {
			c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, request) // fails if the agent has closed the connection already
		}
		out, err := exec.CommandContext(t.Context(), agenttest.Binary(t), "health", "--url", a.URL).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "ok" {
			t.Errorf("after clients with the request %q: kcagent health: %v, %s", request, err, out)
		}
	}
}
