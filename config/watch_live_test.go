package config

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
const patience = 30 * time.Second

// A live watcher watches a real file, and polls so seldom that no poll can
// hide a missed event.
type live struct {
	t      *testing.T
	w      *Watcher
	dir    string
	path   string
	reload chan os.Signal
	last   Update        // as want saw it
	looked chan struct{} // has room for one: looks has grown

	mu      sync.Mutex
	looks   int
	history []string // every content that was delivered
}

// watchDir watches config.yaml, which says "A", in a directory of its own.
func watchDir(t *testing.T, o WatchOptions, change ...func(*Watcher)) *live {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "A")
	return watchFile(t, path, o, change...)
}

// watchFile watches a file that says "A", and has for long.
func watchFile(t *testing.T, path string, o WatchOptions, change ...func(*Watcher)) *live {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path, past, past))
	l := start(t, path, o, change...)
	l.want("A")
	return l
}

func start(t *testing.T, path string, o WatchOptions, change ...func(*Watcher)) *live {
	l := &live{t: t, dir: filepath.Dir(path), path: path, reload: make(chan os.Signal), looked: make(chan struct{}, 1)}
	o.Events = true
	o.Reload = l.reload
	if o.Poll == 0 {
		o.Poll = time.Hour
	}
	l.w = NewWatcher(path, o)
	l.w.parse = func(file string, data []byte) (*Config, Problems) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.history = append(l.history, string(data))
		return trivialParse(file, data)
	}
	l.w.read = func(path string) ([]byte, time.Time, error) {
		data, modified, err := readFile(path)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.looks++
		select {
		case l.looked <- struct{}{}:
		default:
		}
		return data, modified, err
	}
	for _, f := range change {
		f(l.w)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
	})
	return l
}

// edit makes an edit and waits for the update that it causes. What an edit in
// several steps shows in between is passed over: a slow machine may see it.
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
		case l.last = <-l.w.Updates():
			if seen = append(seen, show(l.last)); show(l.last) == want {
				return
			}
		case <-deadline:
			l.t.Fatalf("no update %q after %v, but %q", want, patience, seen)
		}
	}
}

func (l *live) signal() { l.reload <- os.Interrupt }

// waitForLooks waits until the file was read n times in all.
func (l *live) waitForLooks(n int) {
	l.t.Helper()
	for deadline := time.After(patience); ; {
		l.mu.Lock()
		looks := l.looks
		l.mu.Unlock()
		if looks >= n {
			return
		}
		select {
		case <-l.looked:
		case <-deadline:
			l.t.Fatalf("%d looks after %v, want %d", looks, patience, n)
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
		t.Skipf("the kernel's watches cannot be counted here: %v", err)
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
