// Package condition logs reminders of conditions that last, such as a consumer in ERROR, a
// rejected configuration or a zombie: while one lasts, it is logged again every few minutes
// with its cause and how long it has lasted. Many consumers with one cause are one line, so
// the number of lines depends only on the number of causes and on time.
package condition

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/logkey"
)

const (
	// RemindEvery is how often a condition that lasts is logged again.
	RemindEvery = 5 * time.Minute
	// checksPerInterval is how often in that time a Log checks what is due.
	checksPerInterval = 60
	// maxCauses is how many causes of one kind have a line of their own. If there are more,
	// one line reports all of them.
	maxCauses = 16
)

// A Log logs the reminders of conditions that last. Its methods are safe for concurrent
// use. A Log without conditions holds no goroutine and no running timer.
type Log struct {
	log   *slog.Logger
	Every time.Duration // [RemindEvery]; tests shorten it before the first Begin

	mu     sync.Mutex
	open   map[id]*condition
	timer  *time.Timer // runs while conditions are open
	closed bool
}

// NewLog returns a Log that writes to log.
func NewLog(log *slog.Logger) *Log {
	return &Log{log: log, Every: RemindEvery, open: make(map[id]*condition)}
}

// A Report is the current cause of a condition, and how its reminders are grouped.
type Report struct {
	Consumer string    // the consumer that it concerns; "" if it concerns the agent
	Cause    string    // for the log
	Key      string    // equal for the same cause of several consumers; "" while another line reports the condition
	Since    time.Time // when it began; zero: at its first report
	Logged   bool      // the cause has just been logged, so the reminder is not due before another interval
}

// An id identifies one condition.
type id struct {
	kind *Kind
	of   string
}

// A condition is a condition that lasts now. Log.mu guards it.
type condition struct {
	Report
	logged time.Time // when it was logged last
}

// Begin starts the reminders of a condition. The kind and of identify it, such as the id of a
// consumer. A further call replaces the report, but keeps the time at which the condition
// began. The caller logs the beginning.
func (l *Log) Begin(k *Kind, of string, r Report) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	c := l.open[id{k, of}]
	if c == nil {
		if r.Since.IsZero() {
			r.Since = now
		}
		c = &condition{logged: now}
		l.open[id{k, of}] = c
		if l.timer == nil {
			l.timer = time.AfterFunc(l.Every/checksPerInterval, l.remind)
		}
	} else {
		r.Since = c.Since
	}
	c.Report = r
	if r.Logged {
		c.logged = now
	}
}

// End records that a condition has ended. ok is false if it had not begun; lasted is for
// the log.
func (l *Log) End(k *Kind, of string) (lasted string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.open[id{k, of}]
	if c == nil {
		return "", false
	}
	delete(l.open, id{k, of})
	if len(l.open) == 0 {
		l.stop()
	}
	return Duration(time.Since(c.Since)), true
}

// Close ends all reminders, because the agent ends.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	clear(l.open)
	l.stop()
}

// stop stops the timer. l.mu is held.
func (l *Log) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// Duration writes how long a condition has lasted, for logs: in seconds, or milliseconds if
// it is shorter than one.
func Duration(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// remind logs the reminders that are due.
func (l *Log) remind() {
	l.mu.Lock()
	var lines []line
	if l.timer != nil {
		l.timer.Reset(l.Every / checksPerInterval)
		lines = l.due(time.Now())
	}
	l.mu.Unlock()
	for _, r := range lines {
		attrs := []any{logkey.Cause, r.cause, logkey.Lasts, r.lasts}
		if r.causes > 1 {
			attrs = append(attrs, logkey.Causes, r.causes)
		}
		switch {
		case r.consumer != "":
			attrs = append(attrs, logkey.Consumer, r.consumer)
		case r.consumers > 1:
			attrs = append(attrs, logkey.Consumers, r.consumers)
		}
		l.log.Log(context.Background(), r.kind.Level, r.kind.Reminder, attrs...)
	}
}

// A line is one reminder.
type line struct {
	kind         *Kind
	causes       int    // number of different causes; the line has one of them
	consumers    int    // number of consumers that the line concerns; 0 if it concerns the agent
	consumer     string // the consumer, if there is only one
	cause, lasts string
}

// due returns the reminders that are due at now, and records that they are logged. l.mu is
// held.
func (l *Log) due(now time.Time) (lines []line) {
	for kind, byKey := range l.groups() {
		if len(byKey) > maxCauses {
			byKey = map[string][]*condition{"": slices.Concat(slices.Collect(maps.Values(byKey))...)}
		}
		for _, group := range byKey {
			isDue := func(c *condition) bool { return now.Sub(c.logged) >= l.Every }
			if !slices.ContainsFunc(group, isDue) {
				continue
			}
			for _, c := range group {
				c.logged = now
			}
			lines = append(lines, newLine(kind, group, now))
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(b.consumers, a.consumers), strings.Compare(a.kind.Reminder, b.kind.Reminder), strings.Compare(a.cause, b.cause))
	})
	return lines
}

// groups returns the conditions by kind and by the key of their cause, without those that
// another line reports.
func (l *Log) groups() map[*Kind]map[string][]*condition {
	groups := make(map[*Kind]map[string][]*condition)
	for of, c := range l.open {
		if c.Key == "" {
			continue
		}
		if groups[of.kind] == nil {
			groups[of.kind] = make(map[string][]*condition)
		}
		groups[of.kind][c.Key] = append(groups[of.kind][c.Key], c)
	}
	return groups
}

// newLine returns the reminder of a group. Its cause is the first in alphabetical order, so
// that reminders of one condition have the same.
func newLine(k *Kind, group []*condition, now time.Time) line {
	r := line{kind: k, cause: group[0].Cause}
	since := now
	causes, consumers := make(map[string]bool), make(map[string]bool)
	for _, c := range group {
		causes[c.Cause] = true
		r.cause = min(r.cause, c.Cause)
		if c.Consumer != "" {
			consumers[c.Consumer] = true
		}
		if c.Since.Before(since) {
			since = c.Since
		}
	}
	r.causes, r.consumers, r.lasts = len(causes), len(consumers), Duration(now.Sub(since))
	if r.consumers == 1 {
		r.consumer = group[0].Consumer
	}
	return r
}
