package filewatch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/condition"
)

// TestReminderOfMissingFileEvents: the log says once that there are no events, again in each
// interval, and once when there are.
func TestReminderOfMissingFileEvents(t *testing.T) {
	inBubble(t, Options{Events: true}, func(b *bubble) {
		b.replace("A", time.Hour)
		b.unavailable = errors.New("no inotify instances left")
		b.run()
		b.want(0, "A")
		time.Sleep(2*condition.RemindEvery + time.Minute)
		b.mu.Lock()
		b.unavailable = nil
		b.mu.Unlock()
		time.Sleep(2 * condition.RemindEvery)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(b.logged.String()), "\n")
		for i, want := range []string{
			`msg="file events are not available; polling for edits"`, "lasts=5m0s", "lasts=10m0s", `msg="file events are available again" paths=fake.yaml lasted=11m`,
		} {
			if len(lines) != 4 || !strings.Contains(lines[i], want) {
				t.Fatalf("line %d lacks %q:\n%s", i, want, b.logged.String())
			}
		}
	})
}
