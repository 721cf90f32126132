package config

import "context"

// A Watcher tells of every edit of one file, however it was written: events,
// polls and signals only say that it is time to look, and the hash of the
// content says whether anything happened.
//
// Content is told once it has held still for Quiet, so that a file caught
// half-written is never taken for a shorter one, and only if it differs from
// what was told last: bad content is told once, and so is its roll-back.
type Watcher struct {
	lookout

	path    string
	updates chan Update
	parse   func(file string, data []byte) (*Config, Problems) // another one in tests
	told    string                                             // key of the finding in the last Update; "" before the first
}

// NewWatcher returns a watcher of the file at path. It touches nothing before Run.
func NewWatcher(path string, o WatchOptions) *Watcher {
	return &Watcher{
		lookout: newLookout(o, path),
		path:    path,
		updates: make(chan Update, 1),
		parse: func(file string, data []byte) (*Config, Problems) {
			return Parse(file, data, o.Getenv)
		},
	}
}

// Updates brings what Run finds, the first file included. Only the newest
// Update waits here: one that nobody has read gives way to the next, and the
// watcher waits for no reader. The channel is never closed.
func (w *Watcher) Updates() <-chan Update { return w.updates }

// Run watches until ctx ends, and then returns nil. It may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	w.run(ctx, w.look)
	return nil
}

// look reads the file and delivers what it found, if that is new and holds still.
func (w *Watcher) look(why string) {
	f := w.find(w.path)
	wait := w.wait(w.path, f, why)
	switch {
	case f.key == w.told:
		delete(w.held, w.path)
		w.o.Log.Debug("configuration file is unchanged", "path", w.path, "why", why)
	case wait > 0:
		w.due.again(f.at.Add(wait))
	default:
		w.deliver(f)
	}
}

func (w *Watcher) deliver(f finding) {
	u := Update{Path: w.path, SHA256: f.sum, At: f.at}
	if f.err != nil {
		u.Problems = Problems{readProblem(w.path, f.err)}
	} else {
		u.Config, u.Problems = w.parse(w.path, f.data)
	}
	w.o.Log.Info("configuration file read", "path", w.path, "why", w.held[w.path].why,
		"sha256", f.sum, "bytes", len(f.data), "problems", len(u.Problems))
	w.told = f.key
	delete(w.held, w.path)
	newest(w.updates, u)
}

// newest puts v into a channel of capacity 1, in place of what nobody has read.
// Nobody else may send, so there is room afterwards, and it cannot block.
func newest[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}
