package filewatch

import (
	"context"
	"iter"
	"maps"
	"os"
	"syscall"
)

// Fingerprints identify the content of files, by path: two are equal if the content is,
// or if the file cannot be read for the same reason.
type Fingerprints map[string]string

// Fingerprint reads files now and returns their fingerprints.
func Fingerprint(paths iter.Seq[string]) Fingerprints {
	m := newMonitor(Options{})
	prints := make(Fingerprints)
	for p := range paths {
		prints[p] = m.observe(p).key
	}
	return prints
}

// Files watches a changing set of files, such as those with certificates and passwords
// that a configuration names, and reports their fingerprints.
type Files struct {
	monitor monitor

	changes   chan Fingerprints
	reload    chan os.Signal
	delivered Fingerprints
}

// NewFiles returns a watcher that watches nothing before Run and Watch. It does not use
// o.Reload: [Files.Check] has that task.
func NewFiles(o Options) *Files {
	f := &Files{changes: make(chan Fingerprints, 1), reload: make(chan os.Signal, 1), delivered: make(Fingerprints)}
	o.Reload = f.reload
	f.monitor = newMonitor(o)
	f.monitor.newPaths = make(chan []string, 1)
	return f
}

// Watch sets the files to watch from now on. One goroutine at a time may call it.
func (f *Files) Watch(paths []string) { replace(f.monitor.newPaths, paths) }

// Check causes a check at once. It does not wait for it.
func (f *Files) Check() {
	select {
	case f.reload <- syscall.SIGHUP:
	default: // a check is waiting already
	}
}

// Changes returns the channel that receives the fingerprints of all files whenever one of
// them has changed. It holds the newest ones only, so a reader may be slow. It is never
// closed.
func (f *Files) Changes() <-chan Fingerprints { return f.changes }

// Run watches until ctx ends. It may be called once.
func (f *Files) Run(ctx context.Context) { f.monitor.run(ctx, f.check) }

func (f *Files) check(trigger string) {
	now := make(Fingerprints, len(f.monitor.paths))
	candidates := make(map[string]candidate)
	for _, path := range f.monitor.paths {
		if before, ok := f.delivered[path]; ok {
			now[path] = before
		}
		o := f.monitor.observe(path)
		if o.key == now[path] {
			continue
		}
		if wait := f.monitor.settleTime(path, o, trigger); wait > 0 {
			candidates[path] = f.monitor.candidates[path]
			f.monitor.next.confirmBy(o.at.Add(wait))
			continue
		}
		now[path] = o.key
	}
	f.monitor.candidates = candidates
	if maps.Equal(now, f.delivered) {
		return
	}
	f.delivered = now
	replace(f.changes, maps.Clone(now))
}

// replace puts v into a channel of capacity 1, in place of a value that was not received
// yet. There is one sender, so the channel has room afterwards and the send cannot block.
func replace[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}
