package condition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A testLog is a Log inside a bubble of synctest, and what it has written.
type testLog struct {
	*Log
	t   *testing.T
	out bytes.Buffer
}

func newTestLog(t *testing.T) *testLog {
	l := &testLog{t: t}
	l.Log = NewLog(slog.New(slog.NewJSONHandler(&l.out, nil)))
	return l
}

// A reminder is what the tests compare of a line.
type reminder struct {
	Level, Msg, Consumer, Cause, Lasts string
	Consumers, Causes                  int
}

// after lets time pass and returns the lines that were logged during it.
func (l *testLog) after(d time.Duration) (lines []reminder) {
	l.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	for dec := json.NewDecoder(&l.out); dec.More(); {
		var r reminder
		if err := dec.Decode(&r); err != nil {
			l.t.Fatal(err)
		}
		lines = append(lines, r)
	}
	return lines
}

// TestReminders: each row is a sequence of steps, and what is logged by its end.
func TestReminders(t *testing.T) {
	full := Report{Consumer: "a", Cause: "disk full", Key: "full"}
	const tick = RemindEvery / checksPerInterval
	for name, tt := range map[string]struct {
		steps func(l *testLog)
		want  []string // consumer/consumers cause lasts
	}{
		"nothing before the interval": {
			steps: func(l *testLog) { l.Begin(ConsumerFails, "a", full); time.Sleep(RemindEvery - time.Second) },
		},
		"once in each interval": {
			steps: func(l *testLog) { l.Begin(ConsumerFails, "a", full); time.Sleep(3*RemindEvery + time.Second) },
			want:  []string{"a disk full 5m0s", "a disk full 10m0s", "a disk full 15m0s"},
		},
		"nothing after the end": {
			steps: func(l *testLog) {
				l.Begin(ConsumerFails, "a", full)
				time.Sleep(time.Minute)
				if lasted, ok := l.End(ConsumerFails, "a"); lasted != "1m0s" || !ok {
					l.t.Errorf("it lasted %q, %v", lasted, ok)
				}
				if _, ok := l.End(ConsumerFails, "a"); ok {
					l.t.Error("it has ended twice")
				}
				time.Sleep(2 * RemindEvery)
			},
		},
		"nothing after Close": {
			steps: func(l *testLog) {
				l.Begin(ConsumerFails, "a", full)
				l.Close()
				l.Begin(ConsumerFails, "a", full)
				time.Sleep(2 * RemindEvery)
			},
		},
		"a report does not begin it again": {
			steps: func(l *testLog) {
				for range 2 * RemindEvery / time.Second {
					l.Begin(ConsumerFails, "a", full)
					time.Sleep(time.Second)
				}
			},
			want: []string{"a disk full 5m0s", "a disk full 10m0s"},
		},
		"the present cause, however often it changes": {
			steps: func(l *testLog) {
				for i := range int(RemindEvery/time.Second) + 2 {
					l.Begin(ConsumerFails, "a", Report{Consumer: "a", Cause: fmt.Sprint("cause ", i%2), Key: fmt.Sprint(i % 2)})
					time.Sleep(time.Second - time.Millisecond)
				}
			},
			want: []string{"a cause 0 5m0s"},
		},
		"later after a cause that was logged": {
			steps: func(l *testLog) {
				l.Begin(ConsumerFails, "a", full)
				time.Sleep(time.Minute)
				l.Begin(ConsumerFails, "a", Report{Consumer: "a", Cause: "unreachable", Key: "u", Logged: true})
				time.Sleep(RemindEvery + tick)
			},
			want: []string{"a unreachable 6m0s"},
		},
		"since its beginning, not its first report": {
			steps: func(l *testLog) {
				r := full
				r.Since = time.Now().Add(-time.Hour)
				l.Begin(ConsumerFails, "a", r)
				time.Sleep(RemindEvery)
			},
			want: []string{"a disk full 1h5m0s"},
		},
		"nothing while another line reports it, and at once afterwards": {
			steps: func(l *testLog) {
				l.Begin(ConsumerFails, "a", Report{Consumer: "a"})
				time.Sleep(2*RemindEvery + tick/2)
				l.Begin(ConsumerFails, "a", full)
				time.Sleep(tick)
			},
			want: []string{"a disk full 10m5s"},
		},
		"a thousand consumers with one cause are one line": {
			steps: func(l *testLog) {
				for i := range 1000 {
					c := fmt.Sprint("c", i)
					l.Begin(ConsumerFails, c, Report{Consumer: c, Cause: "write /data/" + c + ": disk full", Key: "full"})
					time.Sleep(time.Second / 10)
				}
				time.Sleep(2*RemindEvery - 100*time.Second)
			},
			want: []string{"1000 write /data/c0: disk full 5m0s causes=1000", "1000 write /data/c0: disk full 10m0s causes=1000"},
		},
		"two causes are two lines, the larger first": {
			steps: func(l *testLog) {
				for _, c := range []string{"a", "b", "c"} {
					l.Begin(ConsumerFails, c, Report{Consumer: c, Cause: "cause of c: " + fmt.Sprint(c == "c"), Key: fmt.Sprint(c == "c")})
				}
				time.Sleep(RemindEvery)
			},
			want: []string{"2 cause of c: false 5m0s", "c cause of c: true 5m0s"},
		},
		"many causes are one line": {
			steps: func(l *testLog) {
				for i := range maxCauses + 1 {
					c := fmt.Sprintf("c%02d", i)
					l.Begin(ConsumerFails, c, Report{Consumer: c, Cause: "cause of " + c, Key: c})
					time.Sleep(time.Second)
				}
				time.Sleep(RemindEvery + 10*time.Second)
			},
			want: []string{"17 cause of c00 5m0s causes=17"},
		},
		"kinds have lines of their own": {
			steps: func(l *testLog) {
				l.Begin(ConsumerFails, "a", full)
				l.Begin(ConfigRejected, "", Report{Cause: "line 3", Key: "k"})
				time.Sleep(RemindEvery)
			},
			want: []string{"a disk full 5m0s", "0 line 3 5m0s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTestLog(t)
				defer l.Close()
				tt.steps(l)
				var got []string
				for _, r := range l.after(0) {
					line := fmt.Sprintf("%d %s %s", r.Consumers, r.Cause, r.Lasts)
					if r.Consumer != "" {
						line = fmt.Sprintf("%s %s %s", r.Consumer, r.Cause, r.Lasts)
					}
					if r.Causes > 0 {
						line += fmt.Sprint(" causes=", r.Causes)
					}
					got = append(got, line)
				}
				if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
					t.Errorf("logged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			})
		})
	}
}

// TestKindsHaveTheirMessage: a reminder has the message and the level of its kind.
func TestKindsHaveTheirMessage(t *testing.T) {
	for _, k := range Kinds() {
		synctest.Test(t, func(t *testing.T) {
			l := newTestLog(t)
			defer l.Close()
			l.Begin(k, "x", Report{Cause: "c", Key: "c"})
			got := l.after(RemindEvery)
			if len(got) != 1 || got[0].Msg != k.Reminder || got[0].Level != k.Level.String() {
				t.Errorf("%q: %+v", k.Reminder, got)
			}
		})
	}
}
