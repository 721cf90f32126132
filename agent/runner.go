package agent

import (
	"context"
	"time"

	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/config/filewatch"
)

// A runner is what the loop needs of a consumer; the real one is a consumer.Consumer. Only
// Run blocks. The loop starts Run in a goroutine of its own, and calls the other methods
// itself. Snapshot may be called from any goroutine at any time.
type runner interface {
	// Run runs the consumer until ctx ends; the cause of ctx is a consumer.StopReason. When it
	// returns, the consumer holds no goroutine, socket or file. It may be called again
	// then, unless the reason led to TERMINATED.
	Run(ctx context.Context)

	// Update hands over the spec that the consumer has to apply from now on: settings,
	// topics, pause. It also ends a wait before a retry. spec is not changed afterwards.
	Update(spec *config.Consumer)

	// Reconnect makes the consumer read its credentials again and reconnect with them.
	Reconnect()

	// RetryNow ends a wait before a retry.
	RetryNow()

	// Fingerprints returns the fingerprints of the credentials files in use, by path. It
	// returns nil until the consumer has read them. The loop calls it for every consumer every two
	// seconds, so it must cost less than Snapshot, which looks at each partition.
	Fingerprints() filewatch.Fingerprints

	// Reopen makes the sink look whether its files were moved away.
	Reopen()

	// AwaitTopics names topics that a pre-check did not find: once they are created,
	// their partitions are later additions, which are read from their beginning.
	AwaitTopics(topics []string)

	// Wait sets why a consumer that does not run has not been started yet. With "", its start
	// is cancelled.
	Wait(reason string)

	// Retire moves a consumer that does not run to TERMINATED.
	Retire()

	// Sample measures the rate of records since the last sample.
	Sample(now time.Time)

	// The current state.
	web.SnapshotSource
}
