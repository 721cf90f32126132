package generation

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/condition"
	"kcagent/config"
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
		hs.observe(tp, look)
		if at := hs.at(tp, look, limit, now) != nil; at != c.at || (hs[tp] != nil) != c.remember {
			t.Errorf("%s: at the hole: %v, remembered: %v", name, at, hs[tp] != nil)
		}
	}
}

// TestStallLastsUntilProgress: a partition counts as stalled until its position changes, a
// broker responds that nothing is left to read, or the consumer does not read it any more.
func TestStallLastsUntilProgress(t *testing.T) {
	const limit = time.Second
	now := time.Now()
	tp := sink.TopicPartition{Topic: "t"}
	assigned := map[sink.TopicPartition]*Partition{tp: {}}
	for name, c := range map[string]struct {
		was      int64
		seen     fetch.Progress
		assigned map[sink.TopicPartition]*Partition
		state    config.State
		want     bool
	}{
		"nothing has changed":                     {3, fetch.Progress{Next: 3, End: 5, Answered: now}, assigned, config.Running, true},
		"the position is unknown after a restart": {3, fetch.Progress{Next: -1, End: -1}, assigned, config.Running, true},
		"the position was unknown":                {-1, fetch.Progress{Next: 3, End: 5, Answered: now}, assigned, config.Running, false},
		"a record was read":                       {3, fetch.Progress{Next: 4, End: 5, Answered: now}, assigned, config.Running, false},
		"the log was truncated":                   {3, fetch.Progress{Next: 3, End: 3, Answered: now}, assigned, config.Running, false},
		"at the end, and no broker responds":      {3, fetch.Progress{Next: 3, End: 3, Answered: now.Add(-limit)}, assigned, config.Running, true},
		"paused":                                  {3, fetch.Progress{Next: 3, End: 5, Answered: now}, assigned, config.Paused, false},
		"not assigned":                            {3, fetch.Progress{Next: 3, End: 5, Answered: now}, nil, config.Running, false},
	} {
		s := stalls{tp: c.was}
		s.retain(c.assigned, c.state)
		s.observe(tp, c.seen, limit, now)
		if _, got := s[tp]; got != c.want {
			t.Errorf("%s: stalled: %v", name, got)
		}
	}
}

// TestHoleIsLoggedAgainWhileItLasts: it is logged once when it begins, in each interval
// with the time since the stall, and once when it is over.
func TestHoleIsLoggedAgainWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, nil))
		var spec atomic.Pointer[config.Consumer]
		spec.Store(&config.Consumer{Name: "c"})
		history, conditions := NewHistory(), condition.NewLog(log)
		g := &Generation{env: Env{Log: log, Spec: &spec, History: &history, Conditions: conditions}}
		tp := sink.TopicPartition{Topic: "t", Partition: 1}
		seen := fetch.Progress{Waiting: true, Next: 3, End: 5}
		history.holes[tp] = &hole{stallPoint: stallPoint{3, 5}, since: time.Now().Add(-time.Minute)}
		for range 11 * 60 {
			g.waitAtHole(history.holes[tp], tp, seen, time.Now())
			time.Sleep(time.Second)
		}
		seen.End = 6
		g.leaveHole(history.holes.observe(tp, seen), tp, seen, time.Now())
		time.Sleep(condition.RemindEvery)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for i, want := range []string{
			"broker has no records up to the end of the log; waiting for the end to move", " lasts=6m0s consumer=c", " lasts=11m0s consumer=c", " lasted=12m0s",
		} {
			if len(lines) != 4 || !strings.Contains(lines[i], want) {
				t.Fatalf("line %d lacks %q:\n%s", i, want, out.String())
			}
		}
		g.waitAtHole(&hole{logged: true}, tp, seen, time.Now())
		history.holes[tp] = &hole{}
		g.endReminders()
		time.Sleep(2 * condition.RemindEvery)
		if n := strings.Count(out.String(), "\n"); n != 4 {
			t.Errorf("a reminder after the end of the generation:\n%s", out.String())
		}
	})
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
