package config

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// WatchOptions say what makes a Watcher look at its file.
type WatchOptions struct {
	Log    *slog.Logger     // nil: silent
	Reload <-chan os.Signal // each signal makes it look at once; may be nil, is never closed
	Events bool             // false: only Reload makes it look after the first read
	Getenv func(string) (string, bool)

	Quiet    time.Duration // events pause this long before a look; 100 ms if zero
	MaxDelay time.Duration // events that never pause put a look off no longer than this; 2 s if zero
	Poll     time.Duration // looks without any event are this far apart; 5 s if zero
}

const (
	// grace is how long the file must stay missing, empty or unreadable before
	// that is told: an editor's rename or truncation takes less.
	grace = 400 * time.Millisecond
	// blindPoll replaces a longer Poll where events cannot be had.
	blindPoll = time.Second
)

// A notifier says that something may have happened on the way to the file.
// Only the goroutine of Run calls it.
type notifier interface {
	events() <-chan fsnotify.Event
	lost() <-chan error // something went wrong, so that events may be missing
	concerns(fsnotify.Event) bool
	aim(paths []string) error
	follow() error // watches the ways to the files as they are now
	close()
}

// A lookout says when to look at files, and whether what is seen there holds
// still. Its run is one goroutine, which alone uses it.
type lookout struct {
	o     WatchOptions
	paths []string
	aimed chan []string // other paths; nil if they never change

	// What tests replace.
	read func(path string) (data []byte, modified time.Time, err error)
	open func(paths ...string) (notifier, error)

	eyes  notifier // nil while events cannot be had
	blind bool     // some or all events cannot be had: poll faster
	due   schedule
	held  map[string]sighting // by path: what has yet to hold still
}

// A sighting is what was seen for the first time.
type sighting struct {
	key   string
	since time.Time
	why   string // of the look that saw it
}

func newLookout(o WatchOptions, paths ...string) lookout {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Quiet = cmp.Or(o.Quiet, 100*time.Millisecond)
	o.MaxDelay = cmp.Or(o.MaxDelay, 2*time.Second)
	o.Poll = cmp.Or(o.Poll, 5*time.Second)
	return lookout{o: o, paths: paths, read: readFile, open: openEyes, held: make(map[string]sighting)}
}

// run calls look whenever something calls for it, until ctx ends. Look finds what
// is there and says when to look again by l.due.confirm.
func (l *lookout) run(ctx context.Context, look func(why string)) {
	defer func() {
		if l.eyes != nil {
			l.eyes.close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()

	l.glance("start", look)
	for {
		why := l.arm(timer)
		var events <-chan fsnotify.Event
		var lost <-chan error
		if l.eyes != nil {
			events, lost = l.eyes.events(), l.eyes.lost()
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if l.eyes.concerns(e) {
				l.due.event(time.Now())
			}
		case err := <-lost:
			l.o.Log.Debug("file events may be missing", "paths", l.names(), "error", err)
			l.due.event(time.Now())
		case <-l.o.Reload:
			l.glance("signal", look)
		case l.paths = <-l.aimed:
			l.glance("start", look)
		case <-timer.C:
			l.glance(why, look)
		}
	}
}

// glance has the ways to the files watched and then looks at them.
func (l *lookout) glance(why string, look func(why string)) {
	l.due = schedule{}
	if l.o.Events && (len(l.paths) > 0 || l.eyes != nil) {
		// The watches come before the read: an edit after the read then has an
		// event, and one before it is in the data.
		l.follow()
		l.due.poll = time.Now().Add(l.pollInterval())
	}
	look(why)
}

// arm sets the timer to the next look and says what that look is for.
func (l *lookout) arm(timer *time.Timer) (why string) {
	at, why := l.due.next(l.o.Quiet, l.o.MaxDelay)
	if at.IsZero() {
		timer.Stop()
		return ""
	}
	timer.Reset(time.Until(at))
	return why
}

func (l *lookout) pollInterval() time.Duration {
	if l.blind {
		return min(l.o.Poll, blindPoll)
	}
	return l.o.Poll
}

// follow has the ways to the files watched as they are now, and logs when that
// starts to fail and when it works again.
func (l *lookout) follow() {
	var err error
	if l.eyes == nil {
		l.eyes, err = l.open(l.paths...)
	} else {
		err = l.eyes.aim(l.paths)
	}
	if err == nil {
		err = l.eyes.follow()
	}
	switch blind := err != nil; {
	case blind && !l.blind:
		l.o.Log.Warn("file events cannot be had; edits are noticed by polling", "paths", l.names(),
			"poll", min(l.o.Poll, blindPoll), "error", err)
	case !blind && l.blind:
		l.o.Log.Info("file events can be had again", "paths", l.names())
	}
	l.blind = err != nil
}

func (l *lookout) names() string { return strings.Join(l.paths, ",") }

// A finding is what one look at a file saw.
type finding struct {
	key      string // equal for equal findings
	at       time.Time
	data     []byte
	sum      string    // SHA-256 of data, hex; "" with err
	modified time.Time // by the file's own clock
	err      error
}

func (l *lookout) find(path string) finding {
	data, modified, err := l.read(path)
	f := finding{at: time.Now(), data: data, modified: modified, err: err}
	if err != nil {
		f.key = "error " + err.Error()
		return f
	}
	sum := sha256.Sum256(data)
	f.sum = hex.EncodeToString(sum[:])
	f.key = "sha256 " + f.sum
	return f
}

// wait says how much longer f must hold still before it is told; why is of the
// look that saw it.
//
// The age of the file shows that nobody is writing it, except to a poll and
// the look that confirms one: those serve file systems without events, where
// the age compares another machine's clock with ours. Without a trusted age,
// two equal findings Quiet apart show the same.
func (l *lookout) wait(path string, f finding, why string) time.Duration {
	if l.held[path].key != f.key {
		l.held[path] = sighting{f.key, f.at, why}
	}
	held := f.at.Sub(l.held[path].since)
	trusted := why != whyPoll && why != whyConfirm
	switch {
	case f.err != nil || len(bytes.TrimSpace(f.data)) == 0:
		return grace - held
	case trusted && f.at.Sub(f.modified) >= l.o.Quiet:
		return 0
	}
	return l.o.Quiet - held
}

// again has the next look come no later than at.
func (s *schedule) again(at time.Time) {
	if s.confirm.IsZero() || at.Before(s.confirm) {
		s.confirm = at
	}
}

const (
	whyEvent   = "event"
	whyPoll    = "poll"
	whyConfirm = "confirm"
)

// A schedule holds the reasons to look again; each look starts a new one.
type schedule struct {
	first, last   time.Time // of the events; zero without any
	confirm, poll time.Time // zero: not wanted
}

// event notes that something happened now.
func (s *schedule) event(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
}

// next says when to look and why, or zero if nothing calls for it.
func (s *schedule) next(quiet, maxDelay time.Duration) (at time.Time, why string) {
	consider := func(t time.Time, reason string) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at, why = t, reason
		}
	}
	if !s.first.IsZero() {
		consider(s.last.Add(quiet), whyEvent)
		consider(s.first.Add(maxDelay), whyEvent)
	}
	consider(s.confirm, whyConfirm)
	consider(s.poll, whyPoll)
	return at, why
}
