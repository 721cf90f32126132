package filewatch

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

// show is the content as text; a file that could not be read shows as "unread".
func show(c Content) string {
	if c.Err != nil {
		return "unread"
	}
	return string(c.Data)
}

// A bubble runs a File on a fake file with fake events and the fake clock of synctest.
// The test is the only writer of the file.
type bubble struct {
	t         *testing.T
	f         *File
	reload    chan os.Signal
	source    *fakeSource
	contents  chan Content
	delivered []string // since the last want, as show writes it
	logged    strings.Builder

	mu          sync.Mutex
	file        fakeFile
	unavailable error // why there are no events; nil if there are
	reads       int
}

type fakeFile struct {
	data     string
	modified time.Time
	err      error
}

// inBubble runs f with a File that has not started.
func inBubble(t *testing.T, o Options, f func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, reload: make(chan os.Signal), contents: make(chan Content, 100)}
		o.Reload = b.reload
		o.Log = slog.New(slog.NewTextHandler(&b.logged, nil))
		b.f = NewFile("fake.yaml", o)
		b.f.monitor.read, b.f.monitor.open = b.read, b.open
		f(b)
	})
}

// watching runs f with a File that has delivered the content "A", which was written an
// hour ago.
func watching(t *testing.T, f func(b *bubble)) {
	t.Helper()
	inBubble(t, Options{Events: true}, func(b *bubble) {
		b.replace("A", time.Hour)
		b.run()
		b.want(0, "A")
		f(b)
	})
}

// run starts the File and ends it with the test.
func (b *bubble) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.f.Run(ctx, func(c Content) { b.contents <- c }) })
	b.t.Cleanup(func() {
		cancel()
		running.Wait()
		if b.source != nil && !b.source.closed {
			b.t.Error("Run did not close the event source")
		}
	})
}

// want lets d pass and then expects that exactly these contents were delivered since the
// last want.
func (b *bubble) want(d time.Duration, contents ...string) {
	b.t.Helper()
	time.Sleep(d)
	synctest.Wait() // for what happens at this very moment
	for len(b.contents) > 0 {
		b.delivered = append(b.delivered, show(<-b.contents))
	}
	if !slices.Equal(b.delivered, contents) {
		b.t.Fatalf("delivered %q, want %q\n%s", b.delivered, contents, b.logged.String())
	}
	b.delivered = nil
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

func (b *bubble) setUnavailable(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unavailable = err
}

func (b *bubble) event(name string) {
	b.source.ch <- fsnotify.Event{Name: name, Op: fsnotify.Write}
}

func (b *bubble) signal() { b.reload <- os.Interrupt }

// checks returns how often the file was read since it was last called.
func (b *bubble) checks() int {
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

func (b *bubble) open(...string) (eventSource, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unavailable != nil {
		return nil, b.unavailable
	}
	b.source = &fakeSource{b: b, ch: make(chan fsnotify.Event), failures: make(chan error)}
	return b.source, nil
}

type fakeSource struct {
	b        *bubble
	ch       chan fsnotify.Event
	failures chan error
	closed   bool
}

func (s *fakeSource) events() <-chan fsnotify.Event   { return s.ch }
func (s *fakeSource) errors() <-chan error            { return s.failures }
func (s *fakeSource) relevant(ev fsnotify.Event) bool { return ev.Name == "fake.yaml" }
func (s *fakeSource) setPaths([]string) error         { return nil }
func (s *fakeSource) close()                          { s.closed = true }

func (s *fakeSource) update() error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return s.b.unavailable
}
