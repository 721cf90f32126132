package consumer

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kcagent/agent/generation"
	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/config"
)

// TestRecentErrors: the newest error comes first, and one that repeats or lasts is one entry
// with the time of the last occurrence.
func TestRecentErrors(t *testing.T) {
	start := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	for reports, want := range map[string]string{
		"a":                     "a×1@0",
		"a a a":                 "a×3@2",
		"a b":                   "b×1@1 a×1@0",
		"a b a":                 "a×1@2 b×1@1 a×1@0", // a was over meanwhile
		"a b a+ b+ a+":          "a×3@4 b×2@3",       // two partitions retry
		"a b a b+ a+":           "a×2@4 b×2@3 a×1@0",
		"0 1 2 3 4 5 6 7 8 9 x": "x×1@10 9×1@9 8×1@8 7×1@7 6×1@6 5×1@5 4×1@4 3×1@3 2×1@2 1×1@1",
	} {
		var list []RecentError
		for i, report := range strings.Fields(reports) {
			text, lasted := strings.CutSuffix(report, "+")
			before := fmt.Sprint(list)
			next := withError(list, errors.New(text), lasted, start.Add(time.Duration(i)*time.Second))
			if fmt.Sprint(list) != before {
				t.Errorf("%s: a published list was changed", reports)
			}
			list = next
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprintf("%s×%d@%.0f", e.Text, e.Count, e.At.Sub(start).Seconds()))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s", reports, strings.Join(got, " "), want)
		}
	}
	long := withError(nil, errors.New(strings.Repeat("é", maxErrorText)), false, start)[0].Text
	if len(long) > maxErrorText+len("…") || !utf8.ValidString(long) || !strings.HasSuffix(long, "…") {
		t.Errorf("a long error has %d bytes: %s", len(long), long)
	}
}

// TestRecentErrorsSurviveRecovery: a consumer keeps its errors and the errors of its
// partitions after it has recovered and after it was restarted. Another consumer has none of them.
func TestRecentErrorsSurviveRecovery(t *testing.T) {
	spec := config.Consumer{Name: "a"}
	newConsumer := func() *Consumer {
		log := slog.New(slog.DiscardHandler)
		return New(&spec, log, nil, &kafka.Clusters{}, outage.NewLog(log))
	}
	c := newConsumer()
	m := newStateMachine(c)
	for _, e := range []event{
		{kind: faulted, origin: "t-0", err: errors.New("disk full")},
		{kind: faulted, origin: "t-1", err: errors.New("permission denied")},
		{kind: faulted, origin: "t-0", err: errors.New("disk full")}, // retried
		{kind: faulted, origin: "t-0"},
		{kind: faulted, origin: "t-1"},
	} {
		m.handleEvent(e)
	}
	m = newStateMachine(c) // of the next run
	m.handleEvent(event{kind: faulted, origin: "t-1", err: generation.SinkError{Err: errors.New("permission denied")}})
	m.handleEvent(event{kind: faulted, origin: "t-1"})
	var got []string
	for _, e := range c.Brief().Errors {
		got = append(got, fmt.Sprintf("%s×%d", e.Text, e.Count))
		if e.At.IsZero() {
			t.Errorf("%s has no time", e.Text)
		}
	}
	if want := "permission denied×1, disk full×2, permission denied×1"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
	if other := newConsumer().Brief().Errors; len(other) > 0 {
		t.Errorf("another consumer has %v", other)
	}
}
