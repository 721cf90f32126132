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

	flushing sinkio.Mutex // one flush, opening or completion at a time; taken before turn
	turn     sinkio.Mutex // guards what follows

	side    *checkpoint.SideFile // the lock and the durable ledger; nil while the writer is closed
	current *segment             // takes the records; nil before the first, and after the file was completed or moved
	moved   *checkpoint.FileMark // the file of the checkpoint, of which the path is not the name any more; nil if it need not be found
	copied  bool                 // current is a copy of the file that the checkpoint names
	rescued *segment             // a new file whose records could not all be copied from a deleted one yet
	pending []byte               // accepted records that wait to be compressed, or gathered
	ledger  checkpoint.Ledger    // exactly once: which records the files hold
	last    *checkpoint.Checkpoint
	parked  *parked // what was closed to save descriptors; nil if nothing was

	lost  error                       // why the records since the last good flush are gone, until Resume
	epoch int                         // grows with each loss
	seen  map[sink.TopicPartition]int // the epoch in which a partition resumed

	completed time.Time            // in the name of the newest complete file
	final     time.Time            // in that of the next one, if it was tried
	done      *checkpoint.FileMark // a complete file whose name may not be durable yet
	folders   []string             // have entries that were not synced yet
	lastUsed  atomic.Int64         // in nanoseconds since 1970
	left      atomic.Int64         // as room
}

func New(e *Env, path string) *Writer {
	return &Writer{
		env: e, Path: path, real: path, flushing: sinkio.NewMutex(), turn: sinkio.NewMutex(),
		ledger: checkpoint.NewLedger(), seen: make(map[sink.TopicPartition]int),
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
		if err := w.turn.Lock(ctx); err != nil {
			return fmt.Errorf("write %s: another write is under way: %w", w.Path, err)
		}
		err := w.append(ctx, c, frame.Data, codec)
		w.turn.Unlock()
		switch {
		case errors.Is(err, errClosed):
			err = w.alone(ctx, w.begin)
		case errors.Is(err, errFull):
			err = w.alone(ctx, func() error { return w.completeFor(c, len(frame.Data)) })
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
	return w.alone(ctx, func() error {
		err := w.openAtOnce()
		if err != nil {
			err = errors.Join(err, w.closeLocked())
		}
		return err
	})
}

// Resume opens the writer for a partition, cuts off what the checkpoint does not cover,
// and returns the partition's entry.
func (w *Writer) Resume(ctx context.Context, tp sink.TopicPartition, committed sink.Commits) (l sink.Ledger, err error) {
	err = w.alone(ctx, func() error { l, err = w.resumeLocked(tp, committed); return err })
	return l, err
}

// Adopt sets the entry of a partition in the ledger, and the ledger's id.
func (w *Writer) Adopt(ctx context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	return w.alone(ctx, func() error {
		if err := w.usable(tp); err != nil {
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
	err = w.alone(context.Background(), func() error {
		served = len(w.seen) > 0
		clear(w.seen)
		if forget == nil {
			return nil
		}
		defer forget()
		return w.closeLocked()
	})
	return served, err
}

// Close closes the writer.
func (w *Writer) Close() error { return w.alone(context.Background(), w.closeLocked) }

// Deadline is when the clock completes the growing file; zero if it does not.
func (w *Writer) Deadline() time.Time {
	_ = w.turn.Lock(context.Background())
	defer w.turn.Unlock()
	return w.deadlineLocked()
}

// Room is how many bytes the growing file can hold until it reaches rotate.size, as far
// as known.
func (w *Writer) Room() int64 { return w.left.Load() }

// alone runs do while nothing else uses the writer.
func (w *Writer) alone(ctx context.Context, do func() error) error {
	if err := w.flushing.Lock(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.Path, err)
	}
	defer w.flushing.Unlock()
	if err := w.turn.Lock(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.Path, err)
	}
	defer w.turn.Unlock()
	return do()
}

// resumeLocked is resume. It is called alone.
func (w *Writer) resumeLocked(tp sink.TopicPartition, committed sink.Commits) (sink.Ledger, error) {
	if w.lost != nil && w.seen[tp] != w.epoch {
		if err := w.reopen(); err != nil {
			return sink.Ledger{}, err
		}
	}
	if err := w.open(); err != nil {
		return sink.Ledger{}, err
	}
	if err := w.cutUncovered(committed); err != nil {
		return sink.Ledger{}, errors.Join(err, w.closeLocked()) // it is to be read again when it was put right
	}
	w.seen[tp] = w.epoch
	w.left.Store(w.roomLocked())
	if !w.env.Exact {
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

// lose marks everything since the last good flush as lost. Every partition has to
// resume; see [ErrReopen].
func (w *Writer) lose(err error) error {
	w.epoch++
	w.lost = fmt.Errorf("%w: %w", err, sink.ErrReopen)
	return w.lost
}

// usable returns an error if the partition has to resume first.
func (w *Writer) usable(tp sink.TopicPartition) error {
	switch epoch, known := w.seen[tp]; {
	case w.lost != nil:
		return w.lost
	case known && epoch != w.epoch:
		return fmt.Errorf("write %s: it was opened again: %w", w.Path, sink.ErrReopen)
	case !known:
		w.seen[tp] = w.epoch
	}
	return nil
}
