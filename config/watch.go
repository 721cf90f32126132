package config

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
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

// A Watcher tells of every edit of one file, however it was written: events,
// polls and signals only say that it is time to look, and the hash of the
// content says whether anything happened.
//
// Content is told once it has held still for Quiet, so that a file caught
// half-written is never taken for a shorter one, and only if it differs from
// what was told last: bad content is told once, and so is its roll-back.
type Watcher struct {
	path    string
	o       WatchOptions
	updates chan Update

	// What tests replace.
	parse func(file string, data []byte) (*Config, Problems)
	read  func(path string) (data []byte, modified time.Time, err error)
	open  func(path string) (notifier, error)

	// The rest belongs to Run.
	eyes    notifier // nil while events cannot be had
	blind   bool     // some or all events cannot be had: poll faster
	due     schedule
	told    string // key of the finding in the last Update; "" before the first
	pending struct {
		key   string // of the finding that has yet to hold still; "" for none
		since time.Time
		why   string
	}
}

// A notifier says that something may have happened on the way to the file.
// Only the goroutine of Run calls it.
type notifier interface {
	events() <-chan fsnotify.Event
	lost() <-chan error // something went wrong, so that events may be missing
	concerns(fsnotify.Event) bool
	follow() error // watches the way to the file as it is now
	close()
}

// NewWatcher returns a watcher of the file at path. It touches nothing before Run.
func NewWatcher(path string, o WatchOptions) *Watcher {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Quiet = cmp.Or(o.Quiet, 100*time.Millisecond)
	o.MaxDelay = cmp.Or(o.MaxDelay, 2*time.Second)
	o.Poll = cmp.Or(o.Poll, 5*time.Second)
	return &Watcher{
		path:    path,
		o:       o,
		updates: make(chan Update, 1),
		parse: func(file string, data []byte) (*Config, Problems) {
			return Parse(file, data, o.Getenv)
		},
		read: readFile,
		open: openEyes,
	}
}

// Updates brings what Run finds, the first file included. Only the newest
// Update waits here: one that nobody has read gives way to the next, and the
// watcher waits for no reader. The channel is never closed.
func (w *Watcher) Updates() <-chan Update { return w.updates }

// Run watches until ctx ends, and then returns nil. It may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	defer func() {
		if w.eyes != nil {
			w.eyes.close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()

	w.look("start")
	for {
		why := w.arm(timer)
		var events <-chan fsnotify.Event
		var lost <-chan error
		if w.eyes != nil {
			events, lost = w.eyes.events(), w.eyes.lost()
		}
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if w.eyes.concerns(e) {
				w.due.event(time.Now())
			}
		case err := <-lost:
			w.o.Log.Debug("file events may be missing", "path", w.path, "error", err)
			w.due.event(time.Now())
		case <-w.o.Reload:
			w.look("signal")
		case <-timer.C:
			w.look(why)
		}
	}
}

// arm sets the timer to the next look and says what that look is for.
func (w *Watcher) arm(timer *time.Timer) (why string) {
	at, why := w.due.next(w.o.Quiet, w.o.MaxDelay)
	if at.IsZero() {
		timer.Stop()
		return ""
	}
	timer.Reset(time.Until(at))
	return why
}

// look reads the file and delivers what it found, if that is new and holds still.
func (w *Watcher) look(why string) {
	w.due = schedule{}
	if w.o.Events {
		// The watches come before the read: an edit after the read then has an
		// event, and one before it is in the data.
		w.follow()
		w.due.poll = time.Now().Add(w.pollInterval())
	}
	f := w.find()
	wait := w.wait(f, why)
	switch {
	case f.key == w.told:
		w.pending.key = ""
		w.o.Log.Debug("configuration file is unchanged", "path", w.path, "why", why)
	case wait > 0:
		w.due.confirm = f.at.Add(wait)
	default:
		w.deliver(f)
	}
}

func (w *Watcher) pollInterval() time.Duration {
	if w.blind {
		return min(w.o.Poll, blindPoll)
	}
	return w.o.Poll
}

// follow has the way to the file watched as it is now, and logs when that
// starts to fail and when it works again.
func (w *Watcher) follow() {
	var err error
	if w.eyes == nil {
		w.eyes, err = w.open(w.path)
	}
	if err == nil {
		err = w.eyes.follow()
	}
	switch blind := err != nil; {
	case blind && !w.blind:
		w.o.Log.Warn("file events cannot be had; edits are noticed by polling", "path", w.path,
			"poll", min(w.o.Poll, blindPoll), "error", err)
	case !blind && w.blind:
		w.o.Log.Info("file events can be had again", "path", w.path)
	}
	w.blind = err != nil
}

// A finding is what one look at the file saw.
type finding struct {
	key      string // equal for equal findings
	at       time.Time
	data     []byte
	sum      string    // SHA-256 of data, hex; "" with err
	modified time.Time // by the file's own clock
	err      error
}

func (w *Watcher) find() finding {
	data, modified, err := w.read(w.path)
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

// wait says how much longer f must hold still before it is delivered.
//
// The age of the file shows that nobody is writing it, except to a poll and
// the look that confirms one: those serve file systems without events, where
// the age compares another machine's clock with ours. Without a trusted age,
// two equal findings Quiet apart show the same.
func (w *Watcher) wait(f finding, why string) time.Duration {
	if w.pending.key != f.key {
		w.pending.key, w.pending.since, w.pending.why = f.key, f.at, why
	}
	held := f.at.Sub(w.pending.since)
	trusted := why != whyPoll && why != whyConfirm
	switch {
	case f.err != nil || len(bytes.TrimSpace(f.data)) == 0:
		return grace - held
	case trusted && f.at.Sub(f.modified) >= w.o.Quiet:
		return 0
	}
	return w.o.Quiet - held
}

func (w *Watcher) deliver(f finding) {
	u := Update{Path: w.path, SHA256: f.sum, At: f.at}
	if f.err != nil {
		u.Problems = Problems{readProblem(w.path, f.err)}
	} else {
		u.Config, u.Problems = w.parse(w.path, f.data)
	}
	w.o.Log.Info("configuration file read", "path", w.path, "why", w.pending.why,
		"sha256", f.sum, "bytes", len(f.data), "problems", len(u.Problems))
	w.told, w.pending.key = f.key, ""

	// An Update that nobody has read is stale now. Nothing else sends, so
	// there is room afterwards, and the send cannot block.
	select {
	case <-w.updates:
	default:
	}
	w.updates <- u
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
