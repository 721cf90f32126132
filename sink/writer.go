package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A writer writes one path: a growing file that has the path's name, and the
// complete files before it. It is open while it holds the path's lock. A record, a
// flush or Resume opens it, Release closes it, and so does the sink when
// descriptors are scarce.
type writer struct {
	sink *fileSink
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
	ledger            // exactly once: which records the files hold
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

func newWriter(s *fileSink, path string) *writer {
	return &writer{
		sink: s, path: path, real: path, flushing: newTurn(), turn: newTurn(),
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
	frame, codec := w.sink.compress(c.Data)
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

// resume opens the writer for a partition, cuts off what the checkpoint does not cover,
// and returns the partition's entry. It is called alone.
func (w *writer) resume(tp TopicPartition, committed Commits) (Ledger, error) {
	if w.lost != nil && w.seen[tp] != w.epoch {
		if err := w.reopen(); err != nil {
			return Ledger{}, err
		}
	}
	if err := w.open(); err != nil {
		return Ledger{}, err
	}
	if err := w.cutUncovered(committed); err != nil {
		return Ledger{}, errors.Join(err, w.close()) // it is to be read again when it was put right
	}
	w.seen[tp] = w.epoch
	w.left.Store(w.room())
	if !w.sink.exact {
		return Ledger{Position: Position{Next: -1}}, nil
	}
	return Ledger{ID: w.id, Position: w.position(tp)}, nil
}

// reopen closes a writer that has lost records, so that it is opened as after a
// crash.
func (w *writer) reopen() error {
	if err := w.close(); err != nil {
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

// append is called with the turn.
func (w *writer) append(ctx context.Context, c Chunk, frame []byte, codec Compression) error {
	if err := w.usable(c.TopicPartition); err != nil {
		return err
	}
	if w.side == nil {
		return errClosed
	}
	w.lastUsed.Store(w.sink.now().UnixNano())
	if !c.empty() {
		if err := w.makeRoom(c, len(frame)); err != nil {
			return err
		}
		var err error
		if c.Large != nil {
			err = w.stream(ctx, c.Large)
		} else {
			err = w.accept(c.Data, frame, codec)
		}
		if err != nil {
			return err
		}
	}
	if w.sink.exact {
		w.advance(c)
	}
	w.left.Store(w.room())
	return nil
}

// makeRoom makes current a segment to which the chunk may be appended.
func (w *writer) makeRoom(c Chunk, frame int) error {
	g := w.current
	if g == nil || !g.named {
		return errClosed
	}
	if g.torn {
		if err := w.repair(g); err != nil {
			return err
		}
	}
	if w.due(w.sink.now()) || w.exceeds(c, frame) {
		return errFull
	}
	return nil
}

// accept brings data into the file, or, if it is little and to be compressed,
// into pending. frame is data compressed by codec, if that was done.
func (w *writer) accept(data, frame []byte, codec Compression) error {
	g := w.current
	if g.codec == Uncompressed {
		if w.gathers(data) {
			w.pending = append(w.pending, data...)
			return nil
		}
		if err := w.emit(); err != nil {
			return err
		}
		return w.put(g, data)
	}
	if frame != nil || len(w.pending)+len(data) > w.frameLimit() {
		if err := w.emit(); err != nil {
			return err
		}
	}
	switch {
	case frame == nil && len(data) < w.frameLimit():
		w.pending = append(w.pending, data...)
		return nil
	case frame == nil || codec != g.codec: // changed since
		frame = g.codec.frame(nil, data)
	}
	return w.put(g, frame)
}

// What is gathered: chunks of some records, until they are a few blocks of the disk.
const (
	smallChunk = 4 << 10
	gatherMost = 16 << 10
)

// gathers reports whether an uncompressed chunk waits for the next flush, instead of being
// written at once. With many files, one that is written several times between two flushes
// would be on its way to the disk as often: the syncs of the others take it along.
func (w *writer) gathers(data []byte) bool {
	return len(data) <= smallChunk && len(w.pending)+len(data) <= gatherMost && w.sink.files.many()
}

// emit writes what was gathered, compressed if the file is.
func (w *writer) emit() error {
	if len(w.pending) == 0 {
		return nil
	}
	if w.current.codec == Uncompressed {
		if err := w.put(w.current, w.pending); err != nil {
			return err
		}
		w.pending = nil // an idle consumer holds none
		return nil
	}
	frame := newFrame(w.current.codec, w.pending)
	defer frame.free()
	if err := w.put(w.current, frame.data); err != nil {
		return err
	}
	w.pending = nil // an idle consumer holds none
	return nil
}

// put appends bytes to the file: all, or none.
func (w *writer) put(g *segment, data []byte) error {
	n, err := writeAll(g.f, data)
	if err != nil {
		w.undo(g, int64(n))
		return fault("write", w.path, err)
	}
	w.grown(g, int64(n))
	return nil
}

// grown records that n bytes were appended.
func (w *writer) grown(g *segment, n int64) {
	if g.length == 0 && n > 0 {
		g.since = w.sink.now()
		w.sink.alarm.set(w.deadline())
	}
	g.length += n
}

// idle reports that a flush would find nothing to do.
func (w *writer) idle() bool {
	g := w.current
	return w.lost == nil && len(w.pending) == 0 && w.version == w.stored &&
		(g == nil || !g.torn && g.length == g.safe)
}

// missingFolders lists what is missing of dir and the folders above it.
func missingFolders(fsys FS, dir string) ([]string, error) {
	var missing []string
	for {
		_, err := fsys.Stat(dir)
		if err == nil {
			return missing, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		missing = append(missing, dir)
		parent := filepath.Dir(dir)
		if parent == dir {
			return missing, nil
		}
		dir = parent
	}
}
