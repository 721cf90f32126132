package writer

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// An Env is what the writers of one sink share. The functions are set before the first writer
// is used. Only Spec and NoRename change.
type Env struct {
	Log         *slog.Logger
	fs          disk.FS
	now         func() time.Time
	consumer    string
	group       string
	ExactlyOnce bool // delivery is exactly_once
	format      sink.Format
	pool        *Pool // the descriptors of all sinks of the process
	// OnDeadline is called with the time at which the period of a growing file ends.
	OnDeadline func(at time.Time)
	// OnComplete is called after a file of path was renamed to its final name.
	OnComplete func(path, final string, at time.Time)
	// NewFrame compresses a large chunk. It is called without a lock. It is [compress.NewFrame],
	// except in tests.
	NewFrame func(c sink.Compression, data []byte) compress.Frame

	Spec        atomic.Pointer[sink.FileSpec] // the spec in force
	warnNoLocks sync.Once                     // logs once that the file system has no locks
	NoRename    atomic.Bool                   // the file system has no renames, so files are not completed
}

// NewEnv returns the Env of a sink. The log and the clock in o are set.
func NewEnv(spec sink.FileSpec, o sink.Options, fsys disk.FS, pool *Pool) *Env {
	e := &Env{
		Log: o.Log, fs: fsys, now: o.Now, consumer: o.Consumer, group: o.Group,
		ExactlyOnce: spec.Delivery == sink.ExactlyOnce, format: spec.Format, pool: pool,
		NewFrame: compress.NewFrame,
	}
	e.Spec.Store(&spec)
	return e
}

// defaultMode is the mode of a spec without one.
const defaultMode sink.Mode = 0o640

// mode returns the mode of new files.
func (e *Env) mode() fs.FileMode {
	if m := e.Spec.Load().Mode; m != 0 {
		return fs.FileMode(m)
	}
	return fs.FileMode(defaultMode)
}

func (e *Env) durable() bool { return e.Spec.Load().Durability != sink.None }

func (e *Env) delivery() sink.Delivery {
	if e.ExactlyOnce {
		return sink.ExactlyOnce
	}
	return sink.AtLeastOnce
}

func (e *Env) compression() sink.Compression {
	if c := e.Spec.Load().Compression; c != "" {
		return c
	}
	return sink.Uncompressed
}

// compress compresses a large chunk to a frame, concurrently with other chunks. It returns
// no frame if the chunk is to be written as it is, or compressed together with others.
func (e *Env) compress(data []byte) (compress.Frame, sink.Compression) {
	c := e.compression()
	if c == sink.Uncompressed || len(data) < compress.BigChunk() {
		return compress.Frame{}, c
	}
	return e.NewFrame(c, data), c
}

// lockFile locks a file of a path. Without locks in the file system, at_least_once continues
// with a warning.
func (e *Env) lockFile(f disk.File, path string) error {
	err := f.Lock()
	if !errors.Is(err, errors.ErrUnsupported) {
		if err != nil {
			return sinkio.OpError("lock", path, err)
		}
		return nil
	}
	if e.ExactlyOnce {
		return fmt.Errorf("%w; exactly_once requires locks: use another file system or delivery: at_least_once", sinkio.OpError("lock", path, err))
	}
	e.warnNoLocks.Do(func() {
		e.Log.Warn("file system has no locks; make sure that no other agent writes the file", logkey.Path, path, logkey.Error, err)
	})
	return nil
}
