package config

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// trivialParse makes the content the name of the one consumer, or a problem
// of content that starts with "bad".
func trivialParse(_ string, data []byte) (*Config, Problems) {
	if strings.HasPrefix(string(data), "bad") {
		return nil, Problems{{Message: string(data)}}
	}
	return &Config{Consumers: []Consumer{{Name: string(data)}}}, nil
}

// show is the inverse of trivialParse; a file that could not be read shows as
// "unread".
func show(u Update) string {
	switch {
	case (u.Config == nil) == (len(u.Problems) == 0):
		return "neither or both"
	case u.SHA256 == "":
		return "unread"
	case u.Config == nil:
		return u.Problems[0].Message
	}
	return u.Config.Consumers[0].Name
}

// A bubble runs a Watcher on a fake file with fake events and the fake clock of
// synctest. The test is the only writer of the file.
type bubble struct {
	t       *testing.T
	w       *Watcher
	reload  chan os.Signal
	eyes    *fakeEyes
	updates []string // what came out so far, as show writes it
	logged  strings.Builder

	mu    sync.Mutex
	file  fakeFile
	deaf  error // why events cannot be had; nil if they can
	reads int
}

type fakeFile struct {
	data     string
	modified time.Time
	err      error
}

// inBubble runs f with a watcher that has not started.
func inBubble(t *testing.T, o WatchOptions, f func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, reload: make(chan os.Signal)}
		o.Reload = b.reload
		o.Log = slog.New(slog.NewTextHandler(&b.logged, nil))
		b.w = NewWatcher("fake.yaml", o)
		b.w.parse, b.w.read, b.w.open = trivialParse, b.read, b.open
		f(b)
	})
}

// watching runs f with a watcher that has delivered the content "A", which was
// written an hour ago.
func watching(t *testing.T, f func(b *bubble)) {
	t.Helper()
	inBubble(t, WatchOptions{Events: true}, func(b *bubble) {
		b.replace("A", time.Hour)
		b.run()
		b.want(0, "A")
		f(b)
	})
}

// run starts the watcher and ends it with the test.
func (b *bubble) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error)
	go func() { done <- b.w.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
		if b.eyes != nil && !b.eyes.closed {
			b.t.Error("Run left the eyes open")
		}
	})
}

// want lets d pass and then expects exactly these updates since the last want.
func (b *bubble) want(d time.Duration, updates ...string) {
	b.t.Helper()
	end := time.NewTimer(d)
	for over := false; !over; {
		select {
		case u := <-b.w.Updates():
			b.updates = append(b.updates, show(u))
		case <-end.C:
			over = true
		}
	}
	synctest.Wait() // for what happens at this very moment
	select {
	case u := <-b.w.Updates():
		b.updates = append(b.updates, show(u))
	default:
	}
	if !slices.Equal(b.updates, updates) {
		b.t.Fatalf("updates %q, want %q\n%s", b.updates, updates, b.logged.String())
	}
	b.updates = nil
}

// replace puts whole content of the given age into the file, without an event.
func (b *bubble) replace(data string, age time.Duration) {
	b.set(fakeFile{data: data, modified: time.Now().Add(-age)})
}

// write puts content into the file now, with an event.
func (b *bubble) write(data string) {
	b.replace(data, 0)
	b.event("fake.yaml")
}

func (b *bubble) set(f fakeFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.file = f
}

func (b *bubble) setDeaf(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf = err
}

func (b *bubble) event(name string) {
	b.eyes.ch <- fsnotify.Event{Name: name, Op: fsnotify.Write}
}

func (b *bubble) signal() { b.reload <- os.Interrupt }

// looks returns how often the file was read since it was last called.
func (b *bubble) looks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.reads
	b.reads = 0
	return n
}

func (b *bubble) read(string) ([]byte, time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	return []byte(b.file.data), b.file.modified, b.file.err
}

func (b *bubble) open(...string) (notifier, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deaf != nil {
		return nil, b.deaf
	}
	b.eyes = &fakeEyes{b: b, ch: make(chan fsnotify.Event), trouble: make(chan error)}
	return b.eyes, nil
}

type fakeEyes struct {
	b       *bubble
	ch      chan fsnotify.Event
	trouble chan error
	closed  bool
}

func (e *fakeEyes) events() <-chan fsnotify.Event   { return e.ch }
func (e *fakeEyes) lost() <-chan error              { return e.trouble }
func (e *fakeEyes) concerns(ev fsnotify.Event) bool { return ev.Name == "fake.yaml" }
func (e *fakeEyes) aim([]string) error              { return nil }
func (e *fakeEyes) close()                          { e.closed = true }

func (e *fakeEyes) follow() error {
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	return e.b.deaf
}
