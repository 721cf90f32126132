// Package wait is how tests wait: until something holds, and no longer.
package wait

import (
	"testing"
	"time"
)

// Timeout is how long a test waits for what normally takes moments. It is
// generous, for it is spent only when something is wrong.
const Timeout = time.Minute

const pause = 50 * time.Millisecond

// For waits until cond returns nil, and fails the test with cond's last error
// if that takes longer than timeout. cond runs on the test's goroutine.
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
