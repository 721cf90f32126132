package config

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A vault is a folder with files that hold secrets, and who watches them.
type vault struct {
	*testing.T
	*Files
	dir string
}

func newVault(t *testing.T, o WatchOptions, names ...string) *vault {
	t.Helper()
	v := &vault{T: t, dir: t.TempDir(), Files: NewFiles(o)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { v.Files.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, name := range names {
		write(t, v.path(name), "first "+name)
	}
	v.Set(v.paths(names...))
	v.want("the first look", func(p Prints) bool { return len(p) == len(names) })
	return v
}

func (v *vault) path(name string) string { return filepath.Join(v.dir, name) }

func (v *vault) paths(names ...string) []string {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = v.path(n)
	}
	return paths
}

// want waits for prints for which ok holds.
func (v *vault) want(what string, ok func(Prints) bool) Prints {
	v.Helper()
	deadline := time.After(patience)
	var last Prints
	for {
		select {
		case last = <-v.Changes():
			if ok(last) {
				return last
			}
		case <-deadline:
			v.Fatalf("%s did not come; the last prints are %v", what, last)
		}
	}
}

// wantNow waits until what is told is what the files hold now.
func (v *vault) wantNow(what string, names ...string) Prints {
	v.Helper()
	now := Fingerprints(slices.Values(v.paths(names...)))
	return v.want(what, func(p Prints) bool { return maps.Equal(p, now) })
}

func TestFilesTellOfEveryChange(t *testing.T) {
	v := newVault(t, WatchOptions{Events: true, Poll: time.Hour}, "ca", "key")
	renameOver(t, v.path("key"), "second")
	v.wantNow("a file renamed over", "ca", "key")
	check(t, os.Remove(v.path("ca")))
	gone := v.want("a file that is gone", func(p Prints) bool { return strings.HasPrefix(p[v.path("ca")], "error ") })
	write(t, v.path("ca"), "back")
	if back := v.wantNow("a file that is back", "ca", "key"); back[v.path("key")] != gone[v.path("key")] {
		t.Error("a file that did not change is told to have")
	}

	// Other files, one of them through the links of a ConfigMap or Secret volume.
	kubelet := &atomicWriter{t: t, dir: t.TempDir()}
	kubelet.write(map[string]string{"password": "a"})
	mounted := filepath.Join(kubelet.dir, "password")
	v.Set([]string{mounted, v.path("key")})
	v.want("the new set", func(p Prints) bool { return len(p) == 2 && p[mounted] != "" })
	kubelet.write(map[string]string{"password": "b"})
	now := Fingerprints(slices.Values([]string{mounted, v.path("key")}))
	v.want("the volume's swap", func(p Prints) bool { return maps.Equal(p, now) })

	v.Set(nil)
	v.want("no file", func(p Prints) bool { return len(p) == 0 })
}

// TestFilesTellNothingHalfWritten looks at a file that is written in pieces.
func TestFilesTellNothingHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFiles(WatchOptions{Events: true})
		var text string
		var modified time.Time
		f.read = func(string) ([]byte, time.Time, error) { return []byte(text), modified, nil }
		f.paths = []string{"key"}
		for range 20 {
			text, modified = text+"piece ", time.Now()
			f.look(whyEvent)
			time.Sleep(f.o.Quiet - time.Millisecond)
			f.look(whyConfirm)
		}
		if len(f.changes) > 0 {
			t.Fatalf("half of it was told: %v", <-f.changes)
		}
		if f.due.confirm.IsZero() {
			t.Fatal("nobody will look again")
		}
		time.Sleep(time.Millisecond)
		f.look(whyConfirm)
		if p := <-f.changes; p["key"] != f.find("key").key {
			t.Errorf("told %v", p)
		}
	})
}

func TestFilesWithoutEventsNeedAReason(t *testing.T) {
	v := newVault(t, WatchOptions{}, "key")
	renameOver(t, v.path("key"), "second")
	select {
	case p := <-v.Changes():
		t.Errorf("told %v unasked", p)
	case <-time.After(300 * time.Millisecond):
	}
	v.Look()
	v.wantNow("the change", "key")
}

// TestFilesShareOneDescriptor: a user may have few of inotify's.
func TestFilesShareOneDescriptor(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system does not list descriptors")
	}
	count := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "inotify") {
				n++
			}
		}
		return n
	}
	before := count()
	newVault(t, WatchOptions{Events: true}, "a", "b", "c", "d", "e")
	if n := count() - before; n != 1 {
		t.Errorf("five files take %d descriptors of inotify", n)
	}
}
