package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A writer writes one path: the file that the path names now, and until the
// next Flush those that it named before.
type writer struct {
	sink *fileSink
	path string

	turn    turn     // guards what follows
	current *segment // nil before the first record and after the file was moved
	made    []string // folders that got an entry and have not been synced
	lock    File     // <path>.lock

	retired []*segment // moved away, not yet covered; belongs to Flush
}

// A segment is one file.
type segment struct {
	path   string
	f      File
	id     fs.FileInfo // for os.SameFile, even when f itself is of no use any more
	length int64       // the accepted records end here
	torn   bool        // what a failed write left may follow length

	// These belong to Flush, and to the opening before it.
	folders []string // to sync before anything in the file is safe
	synced  int64    // length at the last good fdatasync; -1 if there was none
	safe    int64    // length at the last good Flush of the whole sink
}

func newWriter(s *fileSink, path string) *writer {
	return &writer{sink: s, path: path, turn: newTurn()}
}

// prepare opens the file.
func (w *writer) prepare(ctx context.Context) error {
	if err := w.turn.take(ctx); err != nil {
		return fmt.Errorf("open %s: %w", w.path, err)
	}
	defer w.turn.give()
	return w.ready()
}

// write appends a chunk: all of it, or nothing.
func (w *writer) write(ctx context.Context, data []byte) error {
	if err := w.turn.take(ctx); err != nil {
		return fmt.Errorf("write %s: another write is under way: %w", w.path, err)
	}
	defer w.turn.give()
	// Asked while the turn is held: Close cuts what came before, and nothing
	// comes after.
	if err := w.sink.loss(); err != nil {
		return err
	}
	if err := w.ready(); err != nil {
		return err
	}
	n, err := writeAll(w.current.f, data)
	if err != nil {
		w.undo(w.current, int64(n))
		return fault("write", w.path, err)
	}
	w.current.length += int64(n)
	return nil
}

// ready makes current a segment that a record may be appended to.
func (w *writer) ready() error {
	if w.current == nil {
		g, err := w.open()
		if err != nil {
			return err
		}
		w.current = g
	}
	if w.current.torn {
		return w.repair(w.current)
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
	g.length = min(g.length, max(0, info.Size()-n))
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
			return fault("open", w.path, err)
		}
	}
	info, err := g.f.Stat()
	if err == nil && info.Size() > g.length {
		err = g.f.Truncate(g.length)
	}
	if err != nil {
		return fault("cut the torn end of", w.path, err)
	}
	g.torn = false
	return nil
}

// again opens the path once more, or returns nil if it does not name the
// segment's file any more or cannot be opened.
func (w *writer) again(g *segment) File {
	f, err := w.sink.fs.OpenFile(w.path, openFlags, 0)
	if err != nil {
		return nil
	}
	if is, err := f.Stat(); err != nil || !os.SameFile(g.id, is) {
		_ = f.Close()
		return nil
	}
	return f
}

// inspect notices what others did to the file: moved it (its records stay in
// it, the next one opens the path anew), deleted it, or changed its length.
func (w *writer) inspect() error {
	g := w.current
	if g == nil {
		return nil
	}
	if g.torn && w.repair(g) != nil {
		return nil // what was accepted is whole, and the next Write tells
	}
	held, err := g.f.Stat()
	if err != nil {
		g.torn = true // have it opened anew
		return fault("stat", w.path, err)
	}
	named, err := w.sink.fs.Stat(w.path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fault("stat", w.path, err)
	case err == nil && os.SameFile(held, named):
		return w.resize(g, held.Size())
	case unlinked(held) && g.length > g.safe:
		return w.rescue(g)
	}
	w.sink.log.Info("sink file was moved or deleted, the next record opens it anew", "path", w.path)
	w.retired = append(w.retired, g)
	w.current = nil
	return nil
}

// resize takes over a length that somebody else gave the file. Records that
// went with it cannot be told from those that a copytruncate took a copy of.
func (w *writer) resize(g *segment, size int64) error {
	if size == g.length {
		return nil
	}
	w.sink.log.Warn("sink file changed its length under the agent", "path", w.path, "expected_bytes", g.length, "found_bytes", size)
	end, err := cutTorn(g.f, size)
	if err != nil {
		return fault("cut the torn end of", w.path, err)
	}
	g.length, g.safe, g.synced = end, min(g.safe, end), -1
	return nil
}

// rescue writes what a deleted file held of unsafe records to a new one: they
// were accepted, and nobody could have read them for good.
func (w *writer) rescue(old *segment) error {
	g, err := w.open()
	if err != nil {
		return err
	}
	n, err := io.Copy(g.f, io.NewSectionReader(old.f, old.safe, old.length-old.safe))
	if err != nil {
		w.undo(g, n)
		_ = g.f.Close()
		return fault("write", w.path, err)
	}
	g.length += n
	_ = old.f.Close()
	w.current = g
	w.sink.log.Warn("sink file was deleted, its unsafe records were written to a new one", "path", w.path, "bytes", n)
	return nil
}
