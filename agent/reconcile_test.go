package agent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"kcagent/config"
)

// TestTakeoverWarningIsLoggedOnce: the agent logs the warning of a change when it applies it,
// once.
func TestTakeoverWarningIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a.newRunner = func(spec config.Consumer) runner { return newFakeRunner(spec) }
		ctx, cancel := context.WithCancel(t.Context())
		updates, done := make(chan config.Update), make(chan error, 1)
		go func() { done <- a.Run(ctx, updates) }()
		for _, consumers := range []string{
			"- {name: old, sink: {file: {path: /data/x.log}}}\n",
			"- {name: new, sink: {file: {path: /data/x.log}}}\n",
			"- {name: new, state: paused, sink: {file: {path: /data/x.log}}}\n",
		} {
			updates <- updateOf(t, consumers)
			settle()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		var warned []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "level=WARN") {
				warned = append(warned, line)
			}
		}
		if len(warned) != 1 || !strings.Contains(warned[0], `msg="change may repeat records"`) || !strings.Contains(warned[0], "consumer=new") ||
			!strings.Contains(warned[0], "/data/x.log") || !strings.Contains(warned[0], "kcagent-old") {
			t.Errorf("the log warns %q, want once, of the file and the group", warned)
		}
	})
}
