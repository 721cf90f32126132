// Package writer writes one path of a file sink: the growing file, its checkpoint, and its
// completion.
//
// It implements what the comment of package file proves. open.go and recover.go implement a
// start, append.go a write, flush.go a flush, and complete.go the completion of a file.
// moved.go handles files that another program moved, deleted or truncated, and pool.go
// closes files to save descriptors. Start reading at [Writer].
package writer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A Writer writes one path: a growing file with the name of the path, and the complete files
// before it. It is open while it holds the path's lock. A record, a flush or Resume opens
// it. Release closes it, and so does the [Pool] when descriptors run out.
//
// Exported methods lock the writer. The comments of other methods say which mutexes the
// caller holds: mu, or both.
type Writer struct {
	env      *Env
	Path     string
	realPath string // the target of path, if that is a symbolic link; the lock and the checkpoint are there

	flushMu sinkio.Mutex // serialises flushes, openings and completions; locked before mu
	mu      sinkio.Mutex // guards the following fields

	store          *checkpoint.Store     // the lock and the durable ledger; nil while the writer is closed
	current        *segment              // takes the records; nil before the first, and after the file was completed or moved
	movedFile      *checkpoint.FileState // the file in the checkpoint, if the path does not name it any more and it is to be found
	isCopy         bool                  // current is a copy of the file in the checkpoint
	rescueSegment  *segment              // a new file to which not all records of a deleted one could be copied yet
	buffer         []byte                // accepted records that are not in the file yet
	ledger         checkpoint.Ledger     // under exactly_once: which records the files hold
	lastCheckpoint *checkpoint.Checkpoint
	parked         *parkedState // nil unless the writer is parked

	lost      error                       // why the records since the last successful flush are lost; nil after Resume
	losses    int                         // how often records were lost
	resumedAt map[sink.TopicPartition]int // the value of losses when a partition resumed

	lastFinalTime   time.Time             // in the name of the newest complete file
	triedFinalTime  time.Time             // in the name of the next complete file, if a rename was tried
	completeFile    *checkpoint.FileState // a complete file whose final name may not be durable yet
	unsyncedFolders []string              // folders with names that are not synced yet
	lastUsed        atomic.Int64          // in nanoseconds since 1970
	roomLeft        atomic.Int64          // see Room
}

// New returns a closed writer of a path.
func New(e *Env, path string) *Writer {
	return &Writer{
		env: e, Path: path, realPath: path, flushMu: sinkio.NewMutex(), mu: sinkio.NewMutex(),
		ledger: checkpoint.NewLedger(), resumedAt: make(map[sink.TopicPartition]int),
	}
}

// errClosed and errFull say why a chunk cannot be appended now.
var (
	errClosed = errors.New("the file is not open")
	errFull   = errors.New("the file is to be completed first")
)

// Write appends a chunk: all or nothing of it.
func (w *Writer) Write(ctx context.Context, c sink.Chunk) error {
	frame, codec := w.env.compress(c.Data)
	defer frame.Free()
	for {
		if err := w.mu.Lock(ctx); err != nil {
			return fmt.Errorf("write %s: another write is in progress: %w", w.Path, err)
		}
		err := w.append(ctx, c, frame.Data, codec)
		w.mu.Unlock()
		switch {
		case errors.Is(err, errClosed):
			err = w.withLocks(ctx, w.openForAppend)
		case errors.Is(err, errFull):
			err = w.withLocks(ctx, func() error { return w.completeFor(c, len(frame.Data)) })
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// OpenNow opens a path without placeholders before there is a record, so that an unusable
// path is reported.
func (w *Writer) OpenNow(ctx context.Context) error {
	return w.withLocks(ctx, func() error {
		err := w.openLiteralPath()
		if err != nil {
			err = errors.Join(err, w.closeLocked())
		}
		return err
	})
}

// Resume opens the writer for a partition, truncates what the checkpoint does not cover, and
// returns the partition's entry in the ledger.
func (w *Writer) Resume(ctx context.Context, tp sink.TopicPartition, committed sink.Commits) (l sink.Ledger, err error) {
	err = w.withLocks(ctx, func() error { l, err = w.resumeLocked(tp, committed); return err })
	return l, err
}

// Adopt sets the entry of a partition in the ledger, and the ID of the ledger.
func (w *Writer) Adopt(ctx context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	return w.withLocks(ctx, func() error {
		if err := w.checkResumed(tp); err != nil {
			return err
		}
		// The writer may have been parked since Resume, and a parked writer is not flushed.
		if err := w.open(); err != nil {
			return err
		}
		w.ledger.Adopt(tp, id, p)
		return nil
	})
}

// Release ends the assignment of all partitions of the writer, and reports whether there was
// one. If forget is not nil, Release closes the writer, and calls forget before it unlocks
// the writer.
func (w *Writer) Release(forget func()) (served bool, err error) {
	err = w.withLocks(context.Background(), func() error {
		served = len(w.resumedAt) > 0
		clear(w.resumedAt)
		if forget == nil {
			return nil
		}
		defer forget()
		return w.closeLocked()
	})
	return served, err
}

// Close closes the writer.
func (w *Writer) Close() error { return w.withLocks(context.Background(), w.closeLocked) }

// Deadline returns when the period of the growing file ends; zero if it does not.
func (w *Writer) Deadline() time.Time {
	_ = w.mu.Lock(context.Background())
	defer w.mu.Unlock()
	return w.deadlineLocked()
}

// Room returns how many bytes the growing file can take before it reaches rotate.size; 0 if
// unknown.
func (w *Writer) Room() int64 { return w.roomLeft.Load() }

// withLocks calls do with both mutexes locked.
func (w *Writer) withLocks(ctx context.Context, do func() error) error {
	if err := w.flushMu.Lock(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.Path, err)
	}
	defer w.flushMu.Unlock()
	if err := w.mu.Lock(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.Path, err)
	}
	defer w.mu.Unlock()
	return do()
}

// resumeLocked is [Writer.Resume]. The caller holds both mutexes.
func (w *Writer) resumeLocked(tp sink.TopicPartition, committed sink.Commits) (sink.Ledger, error) {
	if w.lost != nil && w.resumedAt[tp] != w.losses {
		if err := w.reopen(); err != nil {
			return sink.Ledger{}, err
		}
	}
	if err := w.open(); err != nil {
		return sink.Ledger{}, err
	}
	if err := w.truncateUncovered(committed); err != nil {
		return sink.Ledger{}, errors.Join(err, w.closeLocked()) // the next Resume reads the files again
	}
	w.resumedAt[tp] = w.losses
	w.roomLeft.Store(w.roomLocked())
	if !w.env.ExactlyOnce {
		return sink.Ledger{Position: sink.Position{Next: -1}}, nil
	}
	return sink.Ledger{ID: w.ledger.ID, Position: w.ledger.Position(tp)}, nil
}

// reopen closes a writer that has lost records, so that it is opened as after a crash.
func (w *Writer) reopen() error {
	if err := w.closeLocked(); err != nil {
		return err
	}
	w.lost = nil
	return nil
}

// markLost marks all records since the last successful flush as lost. Every partition has to
// resume; see [sink.ErrReopen]. The caller holds mu.
func (w *Writer) markLost(err error) error {
	w.losses++
	w.lost = fmt.Errorf("%w: %w", err, sink.ErrReopen)
	return w.lost
}

// checkResumed returns an error if the partition has to resume first. The caller holds mu.
func (w *Writer) checkResumed(tp sink.TopicPartition) error {
	switch losses, known := w.resumedAt[tp]; {
	case w.lost != nil:
		return w.lost
	case known && losses != w.losses:
		return fmt.Errorf("write %s: file was reopened: %w", w.Path, sink.ErrReopen)
	case !known:
		w.resumedAt[tp] = w.losses
	}
	return nil
}

// The following methods are for tests of the sink only.

// Abandon closes the writer's files as the end of the process does: it writes and truncates
// nothing.
func (w *Writer) Abandon() error { return w.closeFiles(false) }

// WritePending writes the buffer to the growing file, as further records would.
func (w *Writer) WritePending() error { return w.writeBuffer() }

// InspectFlushed locks the writer, and calls inspect with the growing file's inode and with
// its length at the last successful flush. It does nothing if there is no growing file, or
// if records were lost.
func (w *Writer) InspectFlushed(ctx context.Context, inspect func(inode uint64, flushed int64)) error {
	return w.withLocks(ctx, func() error {
		if g := w.growingSegment(); w.lost == nil && g != nil {
			inspect(disk.Inode(g.info), g.flushed)
		}
		return nil
	})
}
