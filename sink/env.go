package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// An env is what the writers of one sink share. Its exported fields are set before the
// first writer is used and do not change.
type env struct {
	log      *slog.Logger
	fs       FS
	now      func() time.Time
	consumer string
	group    string
	exact    bool // exactly once
	format   Format
	pool     *openFiles // descriptors, shared by all sinks of the process
	// onDeadline is called with the time at which the clock completes a growing file.
	onDeadline func(at time.Time)
	// onComplete is called when a file of path was renamed to its final name.
	onComplete func(path, final string, at time.Time)

	spec       atomic.Pointer[FileSpec] // the one in force
	warnLocks  sync.Once                // the warning that the file system has no locks
	renameless atomic.Bool              // the file system has no renames, so files are not completed
}

// newEnv returns the env of a sink with a log and a clock, opened with spec.
func newEnv(spec FileSpec, o Options, fsys FS, pool *openFiles) *env {
	e := &env{
		log: o.Log, fs: fsys, now: o.Now, consumer: o.Consumer, group: o.Group,
		exact: spec.Delivery == ExactlyOnce, format: spec.Format, pool: pool,
	}
	e.spec.Store(&spec)
	return e
}

// defaultMode is that of a spec that leaves it open.
const defaultMode Mode = 0o640

// mode is that of files made from now on.
func (e *env) mode() fs.FileMode {
	if m := e.spec.Load().Mode; m != 0 {
		return fs.FileMode(m)
	}
	return fs.FileMode(defaultMode)
}

func (e *env) durable() bool { return e.spec.Load().Durability != None }

func (e *env) delivery() Delivery {
	if e.exact {
		return ExactlyOnce
	}
	return AtLeastOnce
}

func (e *env) compression() Compression {
	if c := e.spec.Load().Compression; c != "" {
		return c
	}
	return Uncompressed
}

// compress makes a large chunk a frame, beside the other chunks; nil if it
// is to be written as it is, or with others.
func (e *env) compress(data []byte) (frame, Compression) {
	c := e.compression()
	if c == Uncompressed || len(data) < bigChunk {
		return frame{}, c
	}
	return newFrame(c, data), c
}

// lock locks a file of a path. at_least_once does without where the file system has
// no locks.
func (e *env) lock(f File, path string) error {
	err := f.Lock()
	if !errors.Is(err, errors.ErrUnsupported) {
		if err != nil {
			return fault("lock", path, err)
		}
		return nil
	}
	if e.exact {
		return fmt.Errorf("%w; exactly_once requires locks: use another file system or delivery: at_least_once", fault("lock", path, err))
	}
	e.warnLocks.Do(func() {
		e.log.Warn("file system has no locks; make sure that no other agent writes the file", "path", path, "error", err)
	})
	return nil
}
