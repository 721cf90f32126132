package generation

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"kcagent/agent/outage"
	"kcagent/fetch"
	"kcagent/sink"
)

// TestHoleIsForgottenOnceItMoves: it says which progress is at the hole for which the
// consumer was restarted, and which makes the consumer forget the hole.
func TestHoleIsForgottenOnceItMoves(t *testing.T) {
	const limit = time.Second
	now := time.Now()
	tp := sink.TopicPartition{Topic: "t"}
	for name, c := range map[string]struct {
		next, end    int64
		answered     time.Time
		at, remember bool
	}{
		"the same stall point":                        {3, 5, now, true, true},
		"the position is unknown":                     {-1, -1, now, false, true},
		"the position was reset to an earlier offset": {1, 5, now, false, true},
		"the log was truncated":                       {3, 4, now, false, true},
		"the end has moved":                           {3, 6, now, false, false},
		"a record was read":                           {4, 5, now, false, false},
		"no broker responds":                          {3, 5, now.Add(-limit), false, true},
	} {
		hs := holes{tp: {stallPoint: stallPoint{3, 5}}}
		look := fetch.Progress{Waiting: true, Next: c.next, End: c.end, Answered: c.answered}
		hs.observe(tp, look, slog.New(slog.DiscardHandler))
		if at := hs.at(tp, look, limit, now) != nil; at != c.at || (hs[tp] != nil) != c.remember {
			t.Errorf("%s: at the hole: %v, remembered: %v", name, at, hs[tp] != nil)
		}
	}
}

// TestHoleIsLoggedAgainWhileItLasts: it is logged once, and again every few minutes.
func TestHoleIsLoggedAgainWhileItLasts(t *testing.T) {
	var log strings.Builder
	h := &hole{stallPoint: stallPoint{3, 5}, since: time.Now()}
	for minute := range 11 {
		h.warn(sink.TopicPartition{}, fetch.Progress{}, outage.RemindEvery, h.since.Add(time.Duration(minute)*time.Minute), slog.New(slog.NewJSONHandler(&log, nil)))
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || !strings.Contains(log.String(), `"lag":2`) || !strings.Contains(log.String(), `"lasts":"10m0s"`) {
		t.Errorf("%d lines in ten minutes, want 3:\n%s", n, log.String())
	}
}

// TestPartitionWithAReasonIsNotStalled: there are many reasons for no progress.
func TestPartitionWithAReasonIsNotStalled(t *testing.T) {
	const limit = time.Second
	now := time.Now()
	stuck := fetch.Progress{Waiting: true, Next: 3, End: 5, Answered: now}
	for name, c := range map[string]struct {
		change func(l *fetch.Progress)
		before int64 // position when limit began
		want   bool
	}{
		"no records are returned":                  {func(*fetch.Progress) {}, 3, true},
		"the position is unknown":                  {func(l *fetch.Progress) { l.Next = -1 }, -1, true},
		"the end is unknown":                       {func(l *fetch.Progress) { l.End = -1 }, 3, true},
		"no broker responds for it":                {func(l *fetch.Progress) { l.End, l.Answered = 3, now.Add(-limit) }, 3, true},
		"a response is being received":             {func(l *fetch.Progress) { l.LastEvent = now }, 3, false},
		"the last progress was long ago":           {func(l *fetch.Progress) { l.LastEvent = now.Add(-limit) }, 3, true},
		"the position has moved":                   {func(*fetch.Progress) {}, 2, false},
		"there is nothing to read":                 {func(l *fetch.Progress) { l.End = 3 }, 3, false},
		"a pause, a slow sink or a reported error": {func(l *fetch.Progress) { l.Waiting = false }, 3, false},
	} {
		look := stuck
		c.change(&look)
		p := &Partition{}
		progress := map[*Partition]lastProgress{p: {c.before, now.Add(-limit)}}
		if err := p.checkStall(progress, look, limit, now); (err != nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if !c.want && progress[p] != (lastProgress{look.Next, now}) {
			t.Errorf("%s: the last progress is %+v", name, progress[p])
		}
	}
}
