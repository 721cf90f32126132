// Package diskspace measures how much space the file systems of file sinks have.
//
// It guarantees that a file system that does not respond, such as that of an unreachable
// server, delays nothing but its own measurement, and that few calls wait for it.
package diskspace

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"kcagent/retry"
)

// A Space is the free space and the size of a file system, in bytes.
type Space struct {
	Free uint64 // for processes without privileges
	Size uint64
}

const (
	// interval is the time between two measurements.
	interval = 5 * time.Second
	// callTimeout is how long a measurement of all folders waits for one of them before it
	// continues with the next. The call for that folder continues, too.
	callTimeout = 250 * time.Millisecond
	// maxAge is how old a measurement may be. The space of a file system that has not
	// responded for so long is unknown.
	maxAge = 30 * time.Second
	// maxCalls limits the calls without a response. They cannot be cancelled, and each of
	// them holds a thread of the operating system.
	maxCalls = 16
)

// A Sampler measures the file systems of sinks periodically. Its methods may be called from
// any goroutine, and only Run blocks.
type Sampler struct {
	statfs  func(folder string) (Space, error) // replaced by tests
	changed retry.Signal                       // there are new folders

	mu      sync.Mutex
	folders map[string]*folder
	calls   int // that have not returned yet
}

// A folder is a folder with its last measurement. The mutex of the Sampler guards it.
type folder struct {
	space   Space
	at      time.Time // of the last successful measurement; zero if there was none
	calling bool      // a call has not returned yet
}

// New returns a Sampler that measures nothing yet.
func New() *Sampler {
	return &Sampler{statfs: statfs, changed: retry.NewSignal(), folders: make(map[string]*folder)}
}

// Watch sets the paths of file sinks to measure. Sinks that write to the same folder share a
// measurement.
func (s *Sampler) Watch(paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.folders
	s.folders = make(map[string]*folder)
	for _, path := range paths {
		name := folderOf(path)
		switch {
		case s.folders[name] != nil:
		case was[name] != nil:
			s.folders[name] = was[name]
		default:
			s.folders[name] = new(folder)
			s.changed.Set()
		}
	}
}

// folderOf returns the folder of a path above its first placeholder.
func folderOf(path string) string {
	fixed, _, _ := strings.Cut(path, "{")
	return filepath.Dir(fixed)
}

// Space returns the space of the file system to which the sink with a path writes. ok is
// false if it is unknown: if there was no successful measurement within the last 30 s.
func (s *Sampler) Space(path string) (space Space, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[folderOf(path)]
	if f == nil || f.at.IsZero() || time.Since(f.at) > maxAge {
		return Space{}, false
	}
	return f.space, true
}

// Run measures all folders every few seconds until ctx ends. It does not wait for calls that
// do not return.
func (s *Sampler) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.changed:
		}
		s.measureAll(ctx)
	}
}

// measureAll measures one folder after the other. Each call has a goroutine of its own, which
// measureAll leaves behind if the call takes too long.
func (s *Sampler) measureAll(ctx context.Context) {
	s.mu.Lock()
	folders := maps.Clone(s.folders)
	s.mu.Unlock()
	for name, f := range folders {
		if ctx.Err() != nil {
			return
		}
		if !s.begin(f) {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			space, err := s.measure(name)
			s.end(f, space, err)
		}()
		limit := time.NewTimer(callTimeout)
		select {
		case <-done:
		case <-limit.C:
		case <-ctx.Done():
		}
		limit.Stop()
	}
}

// begin reserves one of the calls for f. It returns false if a call for f has not returned yet,
// or if no call is left.
func (s *Sampler) begin(f *folder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.calling || s.calls == maxCalls {
		return false
	}
	f.calling = true
	s.calls++
	return true
}

func (s *Sampler) end(f *folder, space Space, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.calling = false
	s.calls--
	if err == nil {
		f.space, f.at = space, time.Now()
	}
}

// measure measures the file system of a folder. If the folder does not exist, it measures the
// one above, because the sink creates missing folders there.
func (s *Sampler) measure(folder string) (Space, error) {
	for {
		space, err := s.statfs(folder)
		above := filepath.Dir(folder)
		missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
		if !missing || above == folder {
			return space, err
		}
		folder = above
	}
}
