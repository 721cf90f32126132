package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/agent/testkit"
	"kcagent/condition"
)

// TestConditionsThatLast: each condition is logged once when it begins, in each interval with
// the time since, and once when it ends. Each row is one condition, and the
// lines of the log that are about it.
func TestConditionsThatLast(t *testing.T) {
	const lasts = 2*condition.RemindEvery + time.Minute
	valid, other := "  - {name: a}", "  - {name: a, group: g}"
	holder := "  - {name: a, sink: {file: {path: /1.log}}}"
	heir := "  - {name: b, sink: {file: {path: /1.log}}}"
	for name, tt := range map[string]struct {
		steps func(s *loopTest)
		want  []string
	}{
		"a rejected configuration": {
			steps: func(s *loopTest) { s.edit(valid); s.badEdit(); time.Sleep(lasts); s.edit(valid) },
			want: []string{
				"ERROR configuration rejected problem=:3:0: bad",
				"ERROR configuration is still rejected cause=:3:0: bad lasts=5m0s",
				"ERROR configuration is still rejected cause=:3:0: bad lasts=10m0s",
				"INFO configuration is valid again lasted=11m0s",
			},
		},
		"a pending change that is applied": {
			steps: func(s *loopTest) {
				s.edit(valid)
				s.fail("a", errors.New("unreachable"))
				s.edit(other)
				time.Sleep(lasts)
				s.fail("a", nil)
				time.Sleep(time.Minute)
			},
			want: []string{
				"WARN pre-check failed; keeping the current configuration consumer=a",
				"WARN change is still pending consumer=a cause=replace: unreachable lasts=5m0s",
				"WARN change is still pending consumer=a cause=replace: unreachable lasts=10m0s",
				"INFO pre-check passed consumer=a",
				"INFO pending change applied consumer=a lasted=",
			},
		},
		"a pending change that an edit reverts": {
			steps: func(s *loopTest) {
				s.edit(valid)
				s.fail("a", errors.New("unreachable"))
				s.edit(other)
				time.Sleep(time.Minute)
				s.edit(valid)
				time.Sleep(lasts)
			},
			want: []string{
				"WARN pre-check failed; keeping the current configuration consumer=a",
				"INFO pending change discarded consumer=a reason=a newer edit lasted=1m0s",
			},
		},
		"a pending change whose cause alternates": {
			steps: func(s *loopTest) {
				s.edit(valid)
				for i := range 12 {
					s.fail("a", fmt.Errorf("cause %d", i%2))
					if i == 0 {
						s.edit(other)
					}
					time.Sleep(time.Minute)
				}
			},
			want: []string{
				"WARN pre-check failed; keeping the current configuration consumer=a",
				"WARN pre-check failed; keeping the current configuration consumer=a",
				"WARN change is still pending consumer=a cause=replace: cause",
				"WARN change is still pending consumer=a cause=replace: cause",
			},
		},
		"a change that waits for a file": {
			steps: func(s *loopTest) {
				s.slow["a"] = lasts
				s.edit(holder + "\n  - {name: b, sink: {file: {path: /2.log}}}")
				s.edit(heir)
				time.Sleep(lasts + time.Minute)
			},
			want: []string{
				"INFO pre-check passed consumer=b",
				"INFO change waits for the file of another consumer consumer=b reason=waits until consumer a releases file:/1.log",
				"ERROR consumer did not stop in time; it is a zombie and keeps its sink until it ends consumer=a",
				"INFO change waits for the file of another consumer consumer=b reason=waits until zombie a releases file:/1.log",
				"WARN change is still pending consumer=b cause=replace: waits until zombie a releases file:/1.log lasts=5m20s",
				"ERROR zombie has not ended yet consumer=a cause=did not stop within 20s lasts=5m0s",
				"WARN change is still pending consumer=b cause=replace: waits until zombie a releases file:/1.log lasts=10m20s",
				"ERROR zombie has not ended yet consumer=a cause=did not stop within 20s lasts=10m0s",
				"INFO zombie ended consumer=a lasted=10m40s",
				"INFO pending change applied consumer=b lasted=11m0s",
			},
		},
		"a start that waits for a file": {
			steps: func(s *loopTest) {
				s.slow["a"] = lasts
				s.edit(holder)
				s.edit(heir)
				time.Sleep(lasts + time.Minute)
			},
			want: []string{
				"ERROR consumer did not stop in time; it is a zombie and keeps its sink until it ends consumer=a",
				"WARN consumer still waits for a file consumer=b cause=waits until zombie a releases file:/1.log lasts=5m0s",
				"ERROR zombie has not ended yet consumer=a cause=did not stop within 20s lasts=5m0s",
				"WARN consumer still waits for a file consumer=b cause=waits until zombie a releases file:/1.log lasts=10m0s",
				"ERROR zombie has not ended yet consumer=a cause=did not stop within 20s lasts=10m0s",
				"INFO zombie ended consumer=a lasted=10m40s",
				"INFO file was released; starting the consumer consumer=b lasted=11m0s",
			},
		},
		"a start that waits for a file, until an edit removes the consumer": {
			steps: func(s *loopTest) {
				s.slow["a"] = time.Hour
				s.edit(holder)
				s.edit(heir)
				time.Sleep(time.Minute)
				s.edit("  - {name: c}")
				time.Sleep(2 * condition.RemindEvery)
			},
			want: []string{
				"ERROR consumer did not stop in time; it is a zombie and keeps its sink until it ends consumer=a",
				"ERROR zombie has not ended yet consumer=a cause=did not stop within 20s lasts=5m0s",
				"ERROR zombie has not ended yet consumer=a cause=did not stop within 20s lasts=10m0s",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log testkit.LogBuffer
				s, stop := startLoop(t, Options{Log: slog.New(slog.NewJSONHandler(&log, nil))})
				tt.steps(s)
				settle()
				got := conditionLines(t, &log)
				_ = stop() // zombies end later
				for i := range max(len(got), len(tt.want)) {
					if len(got) != len(tt.want) || !strings.HasPrefix(got[i], tt.want[i]) {
						t.Fatalf("logged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
					}
				}
				time.Sleep(time.Hour)
				if after := conditionLines(t, &log); strings.Contains(strings.Join(after[len(got):], "\n"), " lasts=") {
					t.Errorf("logged after the end of the agent: %q", after[len(got):])
				}
			})
		})
	}
}

// conditionLines returns the lines about conditions: level, message and some attributes.
func conditionLines(t *testing.T, log *testkit.LogBuffer) (lines []string) {
	for text := range strings.Lines(log.String()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		switch l["msg"] {
		case "change planned", "change may repeat records", "configuration accepted", "shutting down", "shut down cleanly":
			continue
		}
		line := fmt.Sprint(l["level"], " ", l["msg"])
		for _, key := range []string{"consumer", "consumers", "problem", "reason", "cause", "lasts", "lasted"} {
			if v, ok := l[key]; ok {
				line += fmt.Sprintf(" %s=%v", key, v)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// TestManyPendingChangesAreOneReminder: a pre-check that fails for many consumers for
// the same cause is one line in each interval.
func TestManyPendingChangesAreOneReminder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testkit.LogBuffer
		s, stop := startLoop(t, Options{Log: slog.New(slog.NewJSONHandler(&log, nil))})
		defer stop()
		const consumers = 100
		var before, after strings.Builder
		for i := range consumers {
			name := fmt.Sprint("c", i)
			fmt.Fprintf(&before, "  - {name: %s}\n", name)
			fmt.Fprintf(&after, "  - {name: %s, topics: [x]}\n", name)
			s.fail(name, fmt.Errorf("join group kcagent-%s: not authorized", name))
		}
		s.edit(before.String())
		s.edit(after.String())
		time.Sleep(2*condition.RemindEvery + time.Minute)
		settle()
		n := 0
		for _, l := range conditionLines(t, &log) {
			if strings.Contains(l, "still pending") {
				n++
				if !strings.Contains(l, "consumers=100") {
					t.Error(l)
				}
			}
		}
		if n != 2 {
			t.Errorf("%d reminders in two intervals", n)
		}
	})
}
