package agent

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"kcagent/config"
)

// TestRunThatEndsFirstStillPassesStopping: a consumer whose membership is over before its own
// goroutine has seen that it should end still moves through STOPPING.
func TestRunThatEndsFirstStillPassesStopping(t *testing.T) {
	for range 50 { // whether it sees the one or the other first is a matter of chance
		ctx, cancel := context.WithCancelCause(t.Context())
		var log strings.Builder
		c := newConsumer(config.Consumer{Name: "c", State: config.Running}, slog.New(slog.NewTextHandler(&log, nil)), nil, &clusters{outages: newOutageLog(nil)})
		cancel(StopReason{To: Created, Why: "state: stopped"})
		c.events <- event{kind: closed} // as if the membership had ended first
		c.Run(ctx)
		if !strings.Contains(log.String(), "from=STOPPING to=CREATED") {
			t.Fatalf("the log says:\n%s", &log)
		}
	}
}
