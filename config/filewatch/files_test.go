package filewatch

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

// A vault is a folder with files that hold secrets, and a watcher of them.
type vault struct {
	t     *testing.T
	files *Files
	dir   string
}

func newVault(t *testing.T, o Options, names ...string) *vault {
	t.Helper()
	v := &vault{t: t, dir: t.TempDir(), files: NewFiles(o)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { v.files.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, name := range names {
		write(t, v.path(name), "first "+name)
	}
	v.files.Watch(v.paths(names...))
	v.want("the first check", func(p Fingerprints) bool { return len(p) == len(names) })
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

// want waits for fingerprints for which ok holds.
func (v *vault) want(what string, ok func(Fingerprints) bool) Fingerprints {
	v.t.Helper()
	deadline := time.After(patience)
	var last Fingerprints
	for {
		select {
		case last = <-v.files.Changes():
			if ok(last) {
				return last
			}
		case <-deadline:
			v.t.Fatalf("%s was not reported; the last fingerprints are %v", what, last)
		}
	}
}

// wantNow waits for the fingerprints of what the files hold now.
func (v *vault) wantNow(what string, names ...string) Fingerprints {
	v.t.Helper()
	now := Fingerprint(slices.Values(v.paths(names...)))
	return v.want(what, func(p Fingerprints) bool { return maps.Equal(p, now) })
}

func TestFilesReportEachChange(t *testing.T) {
	v := newVault(t, Options{Events: true, Poll: time.Hour}, "ca", "key")
	renameOver(t, v.path("key"), "second")
	v.wantNow("a file renamed over", "ca", "key")
	check(t, os.Remove(v.path("ca")))
	gone := v.want("a file that is gone", func(p Fingerprints) bool { return strings.HasPrefix(p[v.path("ca")], "error ") })
	write(t, v.path("ca"), "back")
	if back := v.wantNow("a file that is back", "ca", "key"); back[v.path("key")] != gone[v.path("key")] {
		t.Error("the fingerprint of a file that did not change differs")
	}

	// Other files, one of them through the links of a ConfigMap or Secret volume.
	kubelet := &atomicWriter{t: t, dir: t.TempDir()}
	kubelet.write(map[string]string{"password": "a"})
	mounted := filepath.Join(kubelet.dir, "password")
	v.files.Watch([]string{mounted, v.path("key")})
	v.want("the new set", func(p Fingerprints) bool { return len(p) == 2 && p[mounted] != "" })
	kubelet.write(map[string]string{"password": "b"})
	now := Fingerprint(slices.Values([]string{mounted, v.path("key")}))
	v.want("the volume's swap", func(p Fingerprints) bool { return maps.Equal(p, now) })

	v.files.Watch(nil)
	v.want("no file", func(p Fingerprints) bool { return len(p) == 0 })
}

// TestFilesReportNoHalfWrittenContent checks a file that is written in pieces.
func TestFilesReportNoHalfWrittenContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFiles(Options{Events: true})
		var text string
		var modified time.Time
		f.monitor.read = func(string) ([]byte, time.Time, error) { return []byte(text), modified, nil }
		f.monitor.paths = []string{"key"}
		for range 20 {
			text, modified = text+"piece ", time.Now()
			f.check(triggerEvent)
			time.Sleep(f.monitor.options.Quiet - time.Millisecond)
			f.check(triggerConfirm)
		}
		if len(f.changes) > 0 {
			t.Fatalf("half of it was reported: %v", <-f.changes)
		}
		if f.monitor.next.confirm.IsZero() {
			t.Fatal("no other check is planned")
		}
		time.Sleep(time.Millisecond)
		f.check(triggerConfirm)
		if p := <-f.changes; p["key"] != f.monitor.observe("key").key {
			t.Errorf("reported %v", p)
		}
	})
}

func TestFilesWithoutEventsAreCheckedOnDemandOnly(t *testing.T) {
	v := newVault(t, Options{}, "key")
	renameOver(t, v.path("key"), "second")
	select {
	case p := <-v.files.Changes():
		t.Errorf("reported %v without a check", p)
	case <-time.After(300 * time.Millisecond):
	}
	v.files.Check()
	v.wantNow("the change", "key")
}

// TestFilesShareOneDescriptor: a user may have few inotify descriptors.
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
	newVault(t, Options{Events: true}, "a", "b", "c", "d", "e")
	if n := count() - before; n != 1 {
		t.Errorf("five files use %d inotify descriptors", n)
	}
}
