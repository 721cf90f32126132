package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"
)

// A writer writes one path: the file that the path names now, and while a full
// one waits for its final name, the one after it.
type writer struct {
	sink *fileSink
	path string

	turn    turn     // guards what follows
	current *segment // takes the records; nil before the first and after the file was moved
	full    *segment // complete and without its final name; current is then <path>.next
	pending []byte   // accepted records that wait to be compressed
	lock    File     // <path>.lock
	account          // exactly once: which records those are

	// Guarded by sink.flushing too, which comes first.
	loaded  bool      // what a process before left has been looked at
	folders []string  // that got an entry and have not been synced
	pruneAt time.Time // when the oldest complete file is too old; zero if never
}

// A segment is one file.
type segment struct {
	path   string
	f      File
	id     fs.FileInfo // to know it again, even when f itself is of no use any more
	born   int64       // as File.Born
	codec  Compression
	length int64     // the accepted records end here
	torn   bool      // what a failed write left may follow length
	until  time.Time // rotate.every ends it; zero if nothing is in it
	named  bool      // a durable checkpoint names it
	marked int64     // length at the last Flush
	room   int64     // the disk is allocated up to here; 0 if nothing is

	final string // of a full one: the path that it is to get
	at    state  // of a full one: what it and those before it hold

	// These belong to Flush, and to the opening before it.
	synced int64 // length at the last good fdatasync; -1 if there was none
	safe   int64 // length at the last good Flush of the whole sink
}

func newWriter(s *fileSink, path string) *writer {
	w := &writer{sink: s, path: path, turn: newTurn()}
	w.forget()
	return w
}

// What keeps a chunk from being appended for now.
var (
	errUnnamed = errors.New("no checkpoint names the file")
	errFull    = errors.New("the file is full, and the one before it not yet safe")
)

// write appends a chunk: all of it, or nothing.
func (w *writer) write(ctx context.Context, c Chunk) error {
	frame, codec := w.sink.compress(c.Data)
	defer frame.free()
	for {
		if err := w.turn.take(ctx); err != nil {
			return fmt.Errorf("write %s: another write is under way: %w", w.path, err)
		}
		err := w.append(c, frame.data, codec)
		w.turn.give()
		switch {
		case errors.Is(err, errUnnamed):
			err = w.sink.alone(ctx, w, w.begin)
		case errors.Is(err, errFull):
			err = w.sink.Flush(ctx)
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// append is called with the turn.
func (w *writer) append(c Chunk, frame []byte, codec Compression) error {
	// Asked while the turn is held: Close cuts what came before, and nothing
	// comes after.
	if err := w.sink.loss(); err != nil {
		return err
	}
	if w.sink.exact && !w.loaded {
		return errUnnamed
	}
	if len(c.Data) > 0 {
		if err := w.room(len(c.Data)); err != nil {
			return err
		}
		if err := w.take(c.Data, frame, codec); err != nil {
			return err
		}
	}
	w.reached(c)
	return nil
}

// room makes current a segment that n bytes may be appended to.
func (w *writer) room(n int) error {
	g := w.current
	if g == nil || w.sink.exact && !g.named && w.full == nil {
		return errUnnamed
	}
	if g.torn {
		if err := w.repair(g); err != nil {
			return err
		}
	}
	if !w.due(time.Now(), n) {
		return nil
	}
	if w.full != nil {
		return errFull
	}
	return w.rotate()
}

// take brings data into the file, or, if it is little and to be compressed,
// into pending. frame is data compressed by codec, if somebody did that.
func (w *writer) take(data, frame []byte, codec Compression) error {
	g := w.current
	if g.codec == Uncompressed {
		return w.put(g, data)
	}
	if frame != nil || len(w.pending)+len(data) > frameBytes {
		if err := w.emit(); err != nil {
			return err
		}
	}
	switch {
	case frame == nil && len(data) < bigChunk:
		w.pending = append(w.pending, data...)
		return nil
	case frame == nil || codec != g.codec: // changed since
		frame = g.codec.frame(nil, data)
	}
	return w.put(g, frame)
}

// emit compresses what waits for it.
func (w *writer) emit() error {
	if len(w.pending) == 0 {
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
	w.grown(g)
	g.length += int64(n)
	return nil
}

const (
	busyBytes  = 8 << 20 // between two flushes: who writes that much gets room ahead
	mostToRoom = 256 << 20
)

// reserve has the disk allocated ahead of a file that many records come for,
// half as much again as came since the last flush. Else a sync and the writes
// beside it wait for each other, for both allocate. It is called before a sync,
// for it would wait for that itself. A disk that cannot is written all the same.
func (g *segment) reserve() {
	n := g.length - g.marked
	g.marked = g.length
	if n < busyBytes || g.room == math.MaxInt64 {
		return
	}
	if n = min(n+n/2, mostToRoom); g.room >= g.length+n {
		return
	}
	g.room = g.length + n
	if g.f.Reserve(g.length, n) != nil {
		g.room = math.MaxInt64 // ask no more
	}
}

// trim gives back what was reserved and not used.
func (g *segment) trim() error {
	if g.room == 0 {
		return nil
	}
	g.room = 0
	info, err := g.f.Stat()
	if err != nil {
		return fault("stat", g.path, err)
	}
	if spare(info) < busyBytes/2 {
		return nil
	}
	if err := g.f.Truncate(info.Size()); err != nil { // the length that it has
		return fault("trim", g.path, err)
	}
	return nil
}

// undo cuts off the n bytes of a failed write. The file may meanwhile be
// shorter than the agent left it (copytruncate): then it must not be made
// longer again, for that would fill it with zeros.
func (w *writer) undo(g *segment, n int64) {
	info, err := g.f.Stat()
	switch {
	case err != nil:
		g.torn = true
		return
	case info.Size() == g.length && n == 0:
		return
	}
	if left := max(0, info.Size()-n); left < g.length {
		g.length = left
		w.version++ // the checkpoint says more
	}
	g.torn = g.f.Truncate(g.length) != nil
}

// repair cuts off what undo could not. The path is opened again if it still
// names the file, for the descriptor itself may be what fails (a network file
// system that came back knows it no more). A Flush that was about to sync the
// closed one takes that for a loss, which costs a reading anew and no record.
func (w *writer) repair(g *segment) error {
	if f := w.again(g); f != nil {
		_ = g.f.Close()
		g.f = f
		if err := f.Lock(); err != nil {
			return fault("open", g.path, err)
		}
	}
	info, err := g.f.Stat()
	if err == nil && info.Size() > g.length {
		err = g.f.Truncate(g.length)
	}
	if err != nil {
		return fault("cut the torn end of", g.path, err)
	}
	g.torn = false
	return nil
}

// again opens the path once more, or returns nil if it does not name the
// segment's file any more or cannot be opened.
func (w *writer) again(g *segment) File {
	f, err := w.sink.fs.OpenFile(g.path, openFlags, 0)
	if err != nil {
		return nil
	}
	if is, err := f.Stat(); err != nil || !sameFile(g.id, is) {
		_ = f.Close()
		return nil
	}
	return f
}

// idle reports that a Flush would find nothing to do.
func (w *writer) idle() bool {
	g := w.current
	return w.full == nil && len(w.pending) == 0 && w.version == w.stored &&
		(g == nil || !g.torn && g.length == g.safe)
}
