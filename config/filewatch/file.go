package filewatch

import (
	"context"
	"time"

	"kcagent/logkey"
)

// A File watches one file and delivers each change of its content.
type File struct {
	monitor monitor

	path      string
	delivered string // key of the observation that was delivered last; "" before the first
}

// Content is what a check found.
type Content struct {
	Path    string
	Data    []byte // nil with Err
	SHA256  string // of Data, in hex; "" with Err
	Err     error  // why the file could not be read
	At      time.Time
	Trigger string // what caused the check: start, signal, event, poll or confirm
}

// NewFile returns a watcher of the file at path. It accesses no file before Run.
func NewFile(path string, o Options) *File {
	return &File{monitor: newMonitor(o, path), path: path}
}

// Run calls deliver with the content of the file, and again with each content that
// differs from the last one, until ctx ends. A file that cannot be read is a content,
// too. Run calls deliver from its own goroutine, and checks nothing meanwhile. It may be
// called once.
func (f *File) Run(ctx context.Context, deliver func(Content)) {
	f.monitor.run(ctx, func(trigger string) { f.check(trigger, deliver) })
}

func (f *File) check(trigger string, deliver func(Content)) {
	o := f.monitor.observe(f.path)
	wait := f.monitor.settleTime(f.path, o, trigger)
	switch {
	case o.key == f.delivered:
		delete(f.monitor.candidates, f.path)
		f.monitor.options.Log.Debug("file is unchanged", logkey.Path, f.path, logkey.Trigger, trigger)
	case wait > 0:
		f.monitor.next.confirmBy(o.at.Add(wait))
	default:
		c := Content{Path: f.path, Data: o.data, SHA256: o.sum, Err: o.err, At: o.at, Trigger: f.monitor.candidates[f.path].trigger}
		f.delivered = o.key
		delete(f.monitor.candidates, f.path)
		deliver(c)
	}
}
