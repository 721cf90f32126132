package sink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A writer writes one path: a growing file that has the path's name, and the
// complete files before it. It is open while it holds the path's lock. A record, a
// flush or Resume opens it, Release closes it, and so does the sink when
// descriptors are scarce.
type writer struct {
	env  *env
	path string
	real string // where path leads, if it is a symbolic link; lock, checkpoint and folder are there

	flushing turn // one flush, opening or completion at a time; taken before turn
	turn     turn // guards what follows

	side    *sideFile // the lock and the durable ledger; nil while the writer is closed
	current *segment  // takes the records; nil before the first, and after the file was completed or moved
	moved   *fileMark // the file of the checkpoint, of which the path is not the name any more; nil if it need not be found
	copied  bool      // current is a copy of the file that the checkpoint names
	rescued *segment  // a new file whose records could not all be copied from a deleted one yet
	pending []byte    // accepted records that wait to be compressed, or gathered
	ledger  ledger    // exactly once: which records the files hold
	last    *checkpoint
	parked  *parked // what was closed to save descriptors; nil if nothing was

	lost  error                  // why the records since the last good flush are gone, until Resume
	epoch int                    // grows with each loss
	seen  map[TopicPartition]int // the epoch in which a partition resumed

	completed time.Time    // in the name of the newest complete file
	final     time.Time    // in that of the next one, if it was tried
	done      *fileMark    // a complete file whose name may not be durable yet
	folders   []string     // have entries that were not synced yet
	lastUsed  atomic.Int64 // in nanoseconds since 1970
	left      atomic.Int64 // as room
}

func newWriter(e *env, path string) *writer {
	return &writer{
		env: e, path: path, real: path, flushing: newTurn(), turn: newTurn(),
		ledger: newLedger(), seen: make(map[TopicPartition]int),
	}
}

// What keeps a chunk from being appended for now.
var (
	errClosed = errors.New("the file is not open")
	errFull   = errors.New("the file is to be completed first")
)

// write appends a chunk: all of it, or nothing.
func (w *writer) write(ctx context.Context, c Chunk) error {
	frame, codec := w.env.compress(c.Data)
	defer frame.free()
	for {
		if err := w.turn.take(ctx); err != nil {
			return fmt.Errorf("write %s: another write is under way: %w", w.path, err)
		}
		err := w.append(ctx, c, frame.data, codec)
		w.turn.give()
		switch {
		case errors.Is(err, errClosed):
			err = w.alone(ctx, w.begin)
		case errors.Is(err, errFull):
			err = w.alone(ctx, func() error { return w.completeFor(c, len(frame.data)) })
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// openNow opens the one file of a path without placeholders before there is a record,
// so that a bad path shows.
func (w *writer) openNow(ctx context.Context) error {
	return w.alone(ctx, func() error {
		err := w.openAtOnce()
		if err != nil {
			err = errors.Join(err, w.closeLocked())
		}
		return err
	})
}

// resume opens the writer for a partition, cuts off what the checkpoint does not cover,
// and returns the partition's entry.
func (w *writer) resume(ctx context.Context, tp TopicPartition, committed Commits) (l Ledger, err error) {
	err = w.alone(ctx, func() error { l, err = w.resumeLocked(tp, committed); return err })
	return l, err
}

// adopt sets the entry of a partition in the ledger, and the ledger's id.
func (w *writer) adopt(ctx context.Context, tp TopicPartition, id string, p Position) error {
	return w.alone(ctx, func() error {
		if err := w.usable(tp); err != nil {
			return err
		}
		// It may have been closed since Resume, and what is closed is not flushed.
		if err := w.open(); err != nil {
			return err
		}
		w.ledger.adopt(tp, id, p)
		return nil
	})
}

// release ends the assignment of all partitions of the writer, and reports whether there
// was one. If forget is not nil, the writer is closed, and forget called before another
// may use it.
func (w *writer) release(forget func()) (served bool, err error) {
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

// close closes the writer.
func (w *writer) close() error { return w.alone(context.Background(), w.closeLocked) }

// deadline is when the clock completes the growing file; zero if it does not.
func (w *writer) deadline() time.Time {
	_ = w.turn.take(context.Background())
	defer w.turn.give()
	return w.deadlineLocked()
}

// room is how many bytes the growing file can hold until it reaches rotate.size, as far
// as known.
func (w *writer) room() int64 { return w.left.Load() }

// alone runs do while nothing else uses the writer.
func (w *writer) alone(ctx context.Context, do func() error) error {
	if err := w.flushing.take(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.path, err)
	}
	defer w.flushing.give()
	if err := w.turn.take(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.path, err)
	}
	defer w.turn.give()
	return do()
}

// resumeLocked is resume. It is called alone.
func (w *writer) resumeLocked(tp TopicPartition, committed Commits) (Ledger, error) {
	if w.lost != nil && w.seen[tp] != w.epoch {
		if err := w.reopen(); err != nil {
			return Ledger{}, err
		}
	}
	if err := w.open(); err != nil {
		return Ledger{}, err
	}
	if err := w.cutUncovered(committed); err != nil {
		return Ledger{}, errors.Join(err, w.closeLocked()) // it is to be read again when it was put right
	}
	w.seen[tp] = w.epoch
	w.left.Store(w.roomLocked())
	if !w.env.exact {
		return Ledger{Position: Position{Next: -1}}, nil
	}
	return Ledger{ID: w.ledger.id, Position: w.ledger.position(tp)}, nil
}

// reopen closes a writer that has lost records, so that it is opened as after a
// crash.
func (w *writer) reopen() error {
	if err := w.closeLocked(); err != nil {
		return err
	}
	w.lost = nil
	return nil
}

// lose marks everything since the last good flush as lost. Every partition has to
// resume; see [ErrReopen].
func (w *writer) lose(err error) error {
	w.epoch++
	w.lost = fmt.Errorf("%w: %w", err, ErrReopen)
	return w.lost
}

// usable returns an error if the partition has to resume first.
func (w *writer) usable(tp TopicPartition) error {
	switch epoch, known := w.seen[tp]; {
	case w.lost != nil:
		return w.lost
	case known && epoch != w.epoch:
		return fmt.Errorf("write %s: it was opened again: %w", w.path, ErrReopen)
	case !known:
		w.seen[tp] = w.epoch
	}
	return nil
}
