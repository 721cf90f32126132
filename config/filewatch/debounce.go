package filewatch

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"kcagent/condition"
	"kcagent/logkey"
)

// Options configure what makes a watcher check its files, and how long it waits.
type Options struct {
	Log    *slog.Logger     // nil discards
	Reload <-chan os.Signal // each signal causes a check at once; may be nil, and is never closed
	Events bool             // false: only Reload causes a check after the first one

	Quiet    time.Duration // events must pause this long before a check; 100 ms if zero
	MaxDelay time.Duration // events that never pause delay a check no longer than this; 2 s if zero
	Poll     time.Duration // time between checks without any event; 5 s if zero
}

const (
	// grace is how long a file must stay missing, empty or unreadable before that is
	// reported. The rename or truncation of an editor takes less.
	grace = 400 * time.Millisecond
	// fallbackPoll replaces a longer Poll while events are not available.
	fallbackPoll = time.Second
)

// An eventSource reports that something may have happened on the path to a file. Only
// the goroutine that runs the monitor calls it.
type eventSource interface {
	events() <-chan fsnotify.Event
	errors() <-chan error // an error means that events may be missing
	relevant(fsnotify.Event) bool
	setPaths(paths []string) error
	update() error // watches the paths to the files as they are now
	close()
}

// A monitor decides when to check files, and whether their content has settled. Its run
// is one goroutine, which alone uses it.
type monitor struct {
	options  Options
	paths    []string
	newPaths chan []string // replaces paths; nil if they never change

	// Tests replace these.
	read func(path string) (data []byte, modified time.Time, err error)
	open func(paths ...string) (eventSource, error)

	source     eventSource // nil while events are not available
	polling    bool        // some or all events are not available: poll faster
	conditions *condition.Log
	next       schedule
	candidates map[string]candidate // by path: content that has not settled yet
}

// A candidate is content that was seen, and is delivered once it has settled.
type candidate struct {
	key     string
	since   time.Time
	trigger string // of the check that saw it first
}

func newMonitor(o Options, paths ...string) monitor {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Quiet = cmp.Or(o.Quiet, 100*time.Millisecond)
	o.MaxDelay = cmp.Or(o.MaxDelay, 2*time.Second)
	o.Poll = cmp.Or(o.Poll, 5*time.Second)
	return monitor{
		options: o, paths: paths, read: ReadFile, open: openFSWatcher,
		conditions: condition.NewLog(o.Log), candidates: make(map[string]candidate),
	}
}

// run calls check whenever there is a reason to, until ctx ends. The function reads the
// files, and asks for another check with m.next.confirmBy.
func (m *monitor) run(ctx context.Context, check func(trigger string)) {
	defer m.conditions.Close()
	defer func() {
		if m.source != nil {
			m.source.close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()

	m.check(triggerStart, check)
	for {
		trigger := m.setTimer(timer)
		var events <-chan fsnotify.Event
		var errs <-chan error
		if m.source != nil {
			events, errs = m.source.events(), m.source.errors()
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if m.source.relevant(e) {
				m.next.event(time.Now())
			}
		case err := <-errs:
			m.options.Log.Debug("file events may be missing", logkey.Paths, m.names(), logkey.Error, err)
			m.next.event(time.Now())
		case <-m.options.Reload:
			m.check(triggerSignal, check)
		case m.paths = <-m.newPaths:
			m.check(triggerStart, check)
		case <-timer.C:
			m.check(trigger, check)
		}
	}
}

// check updates the watches and then checks the files.
func (m *monitor) check(trigger string, check func(trigger string)) {
	m.next = schedule{}
	if m.options.Events && (len(m.paths) > 0 || m.source != nil) {
		// The watches come before the read: an edit after the read then has an
		// event, and an edit before it is in the data.
		m.updateWatches()
		m.next.poll = time.Now().Add(m.pollInterval())
	}
	check(trigger)
}

// setTimer sets the timer to the next check and returns the trigger of that check.
func (m *monitor) setTimer(timer *time.Timer) (trigger string) {
	at, trigger := m.next.next(m.options.Quiet, m.options.MaxDelay)
	if at.IsZero() {
		timer.Stop()
		return ""
	}
	timer.Reset(time.Until(at))
	return trigger
}

func (m *monitor) pollInterval() time.Duration {
	if m.polling {
		return min(m.options.Poll, fallbackPoll)
	}
	return m.options.Poll
}

// updateWatches watches the paths to the files as they are now, and logs when that
// starts to fail and when it works again.
func (m *monitor) updateWatches() {
	var err error
	if m.source == nil {
		m.source, err = m.open(m.paths...)
	} else {
		err = m.source.setPaths(m.paths)
	}
	if err == nil {
		err = m.source.update()
	}
	switch was := m.polling; {
	case err != nil:
		if !was {
			m.options.Log.Warn("file events are not available; polling for edits", logkey.Paths, m.names(),
				logkey.Interval, min(m.options.Poll, fallbackPoll), logkey.Error, err)
		}
		m.conditions.Begin(condition.NoFileEvents, "", condition.Report{Cause: err.Error(), Key: "events"})
	case was:
		lasted, _ := m.conditions.End(condition.NoFileEvents, "")
		m.options.Log.Info("file events are available again", logkey.Paths, m.names(), logkey.Lasted, lasted)
	}
	m.polling = err != nil
}

func (m *monitor) names() string { return strings.Join(m.paths, ",") }

// An observation is what one check found at a path.
type observation struct {
	key      string // equal for equal observations
	at       time.Time
	data     []byte
	sum      string    // SHA-256 of data, hex; "" with err
	modified time.Time // by the clock of the file system
	err      error
}

func (m *monitor) observe(path string) observation {
	data, modified, err := m.read(path)
	o := observation{at: time.Now(), data: data, modified: modified, err: err}
	if err != nil {
		o.key = "error " + err.Error()
		return o
	}
	o.sum = Sum(data)
	o.key = "sha256 " + o.sum
	return o
}

// settleTime returns how much longer o must stay the same before it is delivered; zero or
// less is now. trigger is of the check that observed it.
//
// The age of the file shows that nobody is writing it, except to a poll and the check
// that confirms one: they serve file systems without events, where the age compares the
// clock of another machine with ours. Without an age to rely on, two equal observations
// Quiet apart show the same.
func (m *monitor) settleTime(path string, o observation, trigger string) time.Duration {
	if m.candidates[path].key != o.key {
		m.candidates[path] = candidate{o.key, o.at, trigger}
	}
	unchanged := o.at.Sub(m.candidates[path].since)
	sameClock := trigger != triggerPoll && trigger != triggerConfirm
	switch {
	case o.err != nil || len(bytes.TrimSpace(o.data)) == 0:
		return grace - unchanged
	case sameClock && o.at.Sub(o.modified) >= m.options.Quiet:
		return 0
	}
	return m.options.Quiet - unchanged
}

// The triggers of a check.
const (
	triggerStart   = "start"
	triggerSignal  = "signal"
	triggerEvent   = "event"
	triggerPoll    = "poll"
	triggerConfirm = "confirm" // content that has not settled is checked again
)

// A schedule holds the reasons for the next check. Each check starts a new one.
type schedule struct {
	first, last   time.Time // of the events; zero without any
	confirm, poll time.Time // zero: not needed
}

// event records that something happened now.
func (s *schedule) event(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
}

// confirmBy makes the next check happen no later than at.
func (s *schedule) confirmBy(at time.Time) {
	if s.confirm.IsZero() || at.Before(s.confirm) {
		s.confirm = at
	}
}

// next returns when to check and with which trigger, or zero if there is no reason to.
func (s *schedule) next(quiet, maxDelay time.Duration) (at time.Time, trigger string) {
	consider := func(t time.Time, reason string) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at, trigger = t, reason
		}
	}
	if !s.first.IsZero() {
		consider(s.last.Add(quiet), triggerEvent)
		consider(s.first.Add(maxDelay), triggerEvent)
	}
	consider(s.confirm, triggerConfirm)
	consider(s.poll, triggerPoll)
	return at, trigger
}
