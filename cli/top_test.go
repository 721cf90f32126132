package cli

import (
	"strings"
	"testing"

	"kcagent/cli/command"
)

func TestTopNeedsAnAgentAndATerminal(t *testing.T) {
	url := serve(t, sample())
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--url", url}, command.Failure, "stdin and stdout must be a terminal; use kcagent status --watch instead"},
		{[]string{"--url", "localhost"}, command.Usage, "--url"},
		{[]string{"--interval", "0"}, command.Usage, "invalid"},
		{[]string{"--interval", "1ms"}, command.Usage, "invalid --interval 1ms: must be at least 100ms"},
	} {
		code, out, stderr := kcagent(t, append([]string{"top"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.err) || out != "" {
			t.Errorf("top %v: exit %d, want %d; stdout %q, stderr %s", tt.args, code, tt.code, out, stderr)
		}
	}
}
