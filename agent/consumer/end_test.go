package consumer

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/config"
)

// TestRunThatEndsFirstStillPassesStopping: the run of a consumer ends before the state
// machine has received the end of its context. The consumer still goes through STOPPING.
func TestRunThatEndsFirstStillPassesStopping(t *testing.T) {
	for range 50 { // select chooses one of the two at random
		ctx, cancel := context.WithCancelCause(t.Context())
		var log strings.Builder
		c := New(&config.Consumer{Name: "c", State: config.Running}, slog.New(slog.NewTextHandler(&log, nil)), nil, &kafka.Clusters{}, outage.NewLog(nil))
		cancel(StopReason{To: Created, Why: "state: stopped"})
		c.events <- event{kind: closed} // as if the membership had ended first
		c.Run(ctx)
		if !strings.Contains(log.String(), "from=STOPPING to=CREATED") {
			t.Fatalf("the log says:\n%s", &log)
		}
	}
}
