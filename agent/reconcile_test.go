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

// TestWarningsOfTheFileAreLoggedOnce: a warning is logged when a file with it is applied, and
// not again with the next edit.
func TestWarningsOfTheFileAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		updates, done := make(chan config.Update), make(chan error, 1)
		go func() { done <- a.Run(ctx, updates) }()
		first, second := config.Problem{Line: 1, Column: 1, Path: "a", Message: "first"}, config.Problem{Line: 2, Column: 1, Path: "b", Message: "second"}
		moved := first
		moved.Line = 7
		for _, warnings := range []config.Problems{{first}, {moved, second}} {
			u := updateOf(t, "- {name: a, state: stopped}\n")
			u.Config.Warnings = warnings
			updates <- u
			settle()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "configuration contains a probable mistake"); n != 2 || strings.Count(log.String(), "first") != 1 || !strings.Contains(log.String(), "second") {
			t.Errorf("logged %d warnings, want each once:\n%s", n, log.String())
		}
	})
}

// TestTakeoverWarningIsLoggedOnce: the agent logs the warning of a change when it applies it,
// once.
func TestTakeoverWarningIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a.newRunner = func(spec *config.Consumer) runner { return newFakeRunner(spec) }
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
