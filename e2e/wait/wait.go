// Package wait lets tests wait for a condition instead of a fixed time.
package wait

import (
	"testing"
	"time"
)

// Timeout is the limit for what normally takes moments, or a session timeout of 45 s at
// most. It is generous: only a test that fails waits for so long, and a busy machine may
// need several times as long as a quiet one.
const Timeout = 2 * time.Minute

const pause = 50 * time.Millisecond

// For waits until cond returns nil, and fails the test with the last error of cond if that
// takes longer than timeout. cond runs on the goroutine of the caller.
func For(t testing.TB, timeout time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for %s: %v", timeout, what, err)
		}
	}
}
