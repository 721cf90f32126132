package diskspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRealFileSystemHasSpace measures a folder that exists, and one that a sink would create.
func TestRealFileSystemHasSpace(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{dir, filepath.Join(dir, "missing", "too"), filepath.Join(dir, "file", "below")} {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		space, err := New().measure(folder)
		if err != nil || space.Size == 0 || space.Free > space.Size {
			t.Errorf("%s: %+v, %v", folder, space, err)
		}
	}
}

func TestFolderIsAboveThePlaceholders(t *testing.T) {
	for path, want := range map[string]string{
		"/data/orders.log":                  "/data",
		"/data/{topic}/{partition}.log":     "/data",
		"/data/{topic}.log":                 "/data",
		"/data/{name}-files/x-{topic}.json": "/data",
		"/data/a-{topic}.json":              "/data",
		"orders.log":                        ".",
		"/{topic}":                          "/",
	} {
		if got := folderOf(path); got != want {
			t.Errorf("the folder of %s is %s, want %s", path, got, want)
		}
	}
}

// A fakeSystem has file systems of one byte, of which some do not respond.
type fakeSystem struct {
	mu    sync.Mutex
	calls map[string]int
	hang  map[string]chan struct{}
}

func (f *fakeSystem) statfs(folder string) (Space, error) {
	f.mu.Lock()
	f.calls[folder]++
	hang := f.hang[folder]
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	switch folder {
	case "/denied":
		return Space{}, errors.New("permission denied")
	case "/missing":
		return Space{}, fs.ErrNotExist
	}
	return Space{Free: 1, Size: 2}, nil
}

func (f *fakeSystem) count(folder string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[folder]
}

// start runs a sampler on a fake system until the test ends.
func start(t *testing.T) (*Sampler, *fakeSystem) {
	f := &fakeSystem{calls: make(map[string]int), hang: make(map[string]chan struct{})}
	s := New()
	s.statfs = f.statfs
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, f
}

func TestEachFolderIsMeasuredOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := start(t)
		s.Watch([]string{"/data/a.log", "/data/b-{topic}.log", "/missing/{topic}.log", "/denied/a.log"})
		synctest.Wait()
		for path, want := range map[string]bool{
			"/data/a.log": true, "/data/b-{topic}.log": true, "/missing/{topic}.log": true, "/denied/a.log": false, "/other/a.log": false,
		} {
			if space, ok := s.Space(path); ok != want || ok && space != (Space{1, 2}) {
				t.Errorf("%s has %+v, %v", path, space, ok)
			}
		}
		if n := f.count("/data"); n != 1 {
			t.Errorf("/data was measured %d times, want once", n)
		}
		time.Sleep(3*interval + 1)
		synctest.Wait()
		if n := f.count("/data"); n != 4 {
			t.Errorf("after three intervals, /data was measured %d times, want 4", n)
		}
		s.Watch([]string{"/data/a.log"})
		if _, ok := s.Space("/missing/{topic}.log"); ok {
			t.Error("a folder that is not watched any more has space")
		}
	})
}

// TestUnresponsiveFileSystemBlocksNothing: the space of other file systems stays known. The
// space of the unresponsive one is unknown until the call returns, and the sampler makes no
// second call before that.
func TestUnresponsiveFileSystemBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := start(t)
		s.Watch([]string{"/dead/a.log", "/data/a.log"})
		synctest.Wait()
		dead := make(chan struct{})
		f.mu.Lock()
		f.hang["/dead"] = dead
		f.mu.Unlock()
		calls := f.count("/dead")
		time.Sleep(interval + maxAge + time.Second)
		if _, ok := s.Space("/dead/a.log"); ok {
			t.Error("the space of the unresponsive file system is known")
		}
		if _, ok := s.Space("/data/a.log"); !ok {
			t.Error("the space of the other file system is unknown")
		}
		if n := f.count("/dead") - calls; n != 1 {
			t.Errorf("the unresponsive file system got %d calls, want 1", n)
		}
		close(dead)
		synctest.Wait()
		if _, ok := s.Space("/dead/a.log"); !ok {
			t.Error("the space is unknown although the file system responds")
		}
	})
}

// TestCallsWithoutResponseAreLimited: however many folders do not respond.
func TestCallsWithoutResponseAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := start(t)
		dead := make(chan struct{})
		var paths []string
		for i := range 2 * maxCalls {
			folder := fmt.Sprintf("/dead%d", i)
			f.hang[folder] = dead
			paths = append(paths, folder+"/a.log")
		}
		s.Watch(paths)
		time.Sleep(time.Minute)
		s.mu.Lock()
		calls := s.calls
		s.mu.Unlock()
		if calls != maxCalls {
			t.Errorf("%d calls wait, want %d", calls, maxCalls)
		}
		close(dead)
		time.Sleep(interval + 1)
		synctest.Wait()
		for _, path := range paths {
			if _, ok := s.Space(path); !ok {
				t.Errorf("the space of %s is unknown although it responds", path)
			}
		}
	})
}
