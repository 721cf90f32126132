package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen, on any machine.
const patience = 2 * time.Minute

// A live File watches a real file, and polls so seldom that no poll can hide a missed
// event.
type live struct {
	t        *testing.T
	f        *File
	dir      string
	path     string
	reload   chan os.Signal
	last     Content       // as want received it
	contents chan Content  // the newest
	checked  chan struct{} // has room for one: checks has grown

	mu      sync.Mutex
	checks  int
	history []string // every content that was delivered
}

// watchDir watches config.yaml, which says "A", in a directory of its own.
func watchDir(t *testing.T, o Options, change ...func(*File)) *live {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "A")
	return watchFile(t, path, o, change...)
}

// watchFile watches a file that says "A", and has for long.
func watchFile(t *testing.T, path string, o Options, change ...func(*File)) *live {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path, past, past))
	l := start(t, path, o, change...)
	l.want("A")
	return l
}

func start(t *testing.T, path string, o Options, change ...func(*File)) *live {
	l := &live{t: t, dir: filepath.Dir(path), path: path, reload: make(chan os.Signal), checked: make(chan struct{}, 1), contents: make(chan Content, 1)}
	o.Events = true
	o.Reload = l.reload
	if o.Poll == 0 {
		o.Poll = time.Hour
	}
	l.f = NewFile(path, o)
	l.f.monitor.read = func(path string) ([]byte, time.Time, error) {
		data, modified, err := ReadFile(path)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.checks++
		select {
		case l.checked <- struct{}{}:
		default:
		}
		return data, modified, err
	}
	for _, change := range change {
		change(l.f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.f.Run(ctx, l.deliver) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return l
}

func (l *live) deliver(c Content) {
	if c.Err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.history = append(l.history, string(c.Data))
	}
	replace(l.contents, c)
}

// edit makes an edit and waits for the content that it causes. Content between the steps
// of an edit is skipped: a slow machine may see it.
func (l *live) edit(want string, how func()) {
	l.t.Helper()
	how()
	l.want(want)
}

func (l *live) want(want string) {
	l.t.Helper()
	deadline := time.After(patience)
	var seen []string
	for {
		select {
		case l.last = <-l.contents:
			if seen = append(seen, show(l.last)); show(l.last) == want {
				return
			}
		case <-deadline:
			l.t.Fatalf("no content %q after %v, but %q", want, patience, seen)
		}
	}
}

func (l *live) signal() { l.reload <- os.Interrupt }

// waitForChecks waits until the file was read n times in all.
func (l *live) waitForChecks(n int) {
	l.t.Helper()
	for deadline := time.After(patience); ; {
		l.mu.Lock()
		checks := l.checks
		l.mu.Unlock()
		if checks >= n {
			return
		}
		select {
		case <-l.checked:
		case <-deadline:
			l.t.Fatalf("%d checks after %v, want %d", checks, patience, n)
		}
	}
}

// wantHistory expects that exactly this content was delivered since the start.
func (l *live) wantHistory(want ...string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.history, want) {
		l.t.Errorf("delivered %q, want %q", l.history, want)
	}
}

// inotifyWatches counts the watches that the kernel keeps for this process.
func inotifyWatches(t *testing.T) int {
	t.Helper()
	const fds = "/proc/self/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		t.Skipf("this system does not list the watches of the kernel: %v", err)
	}
	n := 0
	for _, e := range entries {
		if target, _ := os.Readlink(filepath.Join(fds, e.Name())); target == "anon_inode:inotify" {
			info := must(os.ReadFile("/proc/self/fdinfo/" + e.Name()))(t)
			n += strings.Count(string(info), "inotify wd:")
		}
	}
	return n
}

func write(t *testing.T, path, data string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(data), 0o644))
}

func renameOver(t *testing.T, path, data string) {
	t.Helper()
	write(t, path+".new", data)
	check(t, os.Rename(path+".new", path))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must is check for a function that returns a value too.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}
