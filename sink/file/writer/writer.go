// Package writer writes one path of a file sink: the file that grows, its checkpoint, and its
// completion.
//
// It implements the argument in the comment of package file: open.go and recover.go a start,
// append.go a write, flush.go a flush, complete.go the completion of a file, moved.go what
// happens when another program moves, deletes or truncates the file, and pool.go how files are
// closed to save descriptors. Start reading at [Writer].
package writer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/sinkio"
)

// A Writer writes one path: a growing file that has the path's name, and the
// complete files before it. It is open while it holds the path's lock. A record, a
// flush or Resume opens it, Release closes it, and so does the sink when
// descriptors are scarce.
type Writer struct {
	env  *Env
	Path string
	real string // where path leads, if it is a symbolic link; lock, checkpoint and folder are there

	flushMu sinkio.Mutex // one flush, opening or completion at a time; taken before turn
	mu      sinkio.Mutex // guards what follows

	store          *checkpoint.Store     // the lock and the durable ledger; nil while the writer is closed
	current        *segment              // takes the records; nil before the first, and after the file was completed or moved
	movedFile      *checkpoint.FileState // the file of the checkpoint, of which the path is not the name any more; nil if it need not be found
	isCopy         bool                  // current is a copy of the file that the checkpoint names
	rescueSegment  *segment              // a new file whose records could not all be copied from a deleted one yet
	buffer         []byte                // accepted records that wait to be compressed, or gathered
	ledger         checkpoint.Ledger     // exactly once: which records the files hold
	lastCheckpoint *checkpoint.Checkpoint
	parked         *parkedState // what was closed to save descriptors; nil if nothing was

	lost      error                       // why the records since the last good flush are gone, until Resume
	losses    int                         // grows with each loss
	resumedAt map[sink.TopicPartition]int // the epoch in which a partition resumed

	lastFinalTime   time.Time             // in the name of the newest complete file
	triedFinalTime  time.Time             // in that of the next one, if it was tried
	completeFile    *checkpoint.FileState // a complete file whose name may not be durable yet
	unsyncedFolders []string              // have entries that were not synced yet
	lastUsed        atomic.Int64          // in nanoseconds since 1970
	roomLeft        atomic.Int64          // as room
}

func New(e *Env, path string) *Writer {
	return &Writer{
		env: e, Path: path, real: path, flushMu: sinkio.NewMutex(), mu: sinkio.NewMutex(),
		ledger: checkpoint.NewLedger(), resumedAt: make(map[sink.TopicPartition]int),
	}
}

// What keeps a chunk from being appended for now.
var (
	errClosed = errors.New("the file is not open")
	errFull   = errors.New("the file is to be completed first")
)

// Write appends a chunk: all of it, or nothing.
func (w *Writer) Write(ctx context.Context, c sink.Chunk) error {
	frame, codec := w.env.compress(c.Data)
	defer frame.Free()
	for {
		if err := w.mu.Lock(ctx); err != nil {
			return fmt.Errorf("write %s: another write is under way: %w", w.Path, err)
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

// OpenNow opens the one file of a path without placeholders before there is a record,
// so that a bad path shows.
func (w *Writer) OpenNow(ctx context.Context) error {
	return w.withLocks(ctx, func() error {
		err := w.openLiteralPath()
		if err != nil {
			err = errors.Join(err, w.closeLocked())
		}
		return err
	})
}

// Resume opens the writer for a partition, cuts off what the checkpoint does not cover,
// and returns the partition's entry.
func (w *Writer) Resume(ctx context.Context, tp sink.TopicPartition, committed sink.Commits) (l sink.Ledger, err error) {
	err = w.withLocks(ctx, func() error { l, err = w.resumeLocked(tp, committed); return err })
	return l, err
}

// Adopt sets the entry of a partition in the ledger, and the ledger's id.
func (w *Writer) Adopt(ctx context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	return w.withLocks(ctx, func() error {
		if err := w.checkResumed(tp); err != nil {
			return err
		}
		// It may have been closed since Resume, and what is closed is not flushed.
		if err := w.open(); err != nil {
			return err
		}
		w.ledger.Adopt(tp, id, p)
		return nil
	})
}

// Release ends the assignment of all partitions of the writer, and reports whether there
// was one. If forget is not nil, the writer is closed, and forget called before another
// may use it.
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

// Deadline is when the clock completes the growing file; zero if it does not.
func (w *Writer) Deadline() time.Time {
	_ = w.mu.Lock(context.Background())
	defer w.mu.Unlock()
	return w.deadlineLocked()
}

// Room is how many bytes the growing file can hold until it reaches rotate.size, as far
// as known.
func (w *Writer) Room() int64 { return w.roomLeft.Load() }

// withLocks runs do while nothing else uses the writer.
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

// resumeLocked is resume. It is called alone.
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
		return sink.Ledger{}, errors.Join(err, w.closeLocked()) // it is to be read again when it was put right
	}
	w.resumedAt[tp] = w.losses
	w.roomLeft.Store(w.roomLocked())
	if !w.env.ExactlyOnce {
		return sink.Ledger{Position: sink.Position{Next: -1}}, nil
	}
	return sink.Ledger{ID: w.ledger.ID, Position: w.ledger.Position(tp)}, nil
}

// reopen closes a writer that has lost records, so that it is opened as after a
// crash.
func (w *Writer) reopen() error {
	if err := w.closeLocked(); err != nil {
		return err
	}
	w.lost = nil
	return nil
}

// markLost marks everything since the last good flush as lost. Every partition has to
// resume; see [ErrReopen].
func (w *Writer) markLost(err error) error {
	w.losses++
	w.lost = fmt.Errorf("%w: %w", err, sink.ErrReopen)
	return w.lost
}

// checkResumed returns an error if the partition has to resume first.
func (w *Writer) checkResumed(tp sink.TopicPartition) error {
	switch epoch, known := w.resumedAt[tp]; {
	case w.lost != nil:
		return w.lost
	case known && epoch != w.losses:
		return fmt.Errorf("write %s: it was opened again: %w", w.Path, sink.ErrReopen)
	case !known:
		w.resumedAt[tp] = w.losses
	}
	return nil
}
