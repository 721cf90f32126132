package sink

import (
	"errors"
	"fmt"
	"io"
)

// inspect notices what others did to the file: moved it (its records stay in
// it, the next one opens the path again), deleted it, or changed its length.
// None of these is frequent, so the records wait meanwhile. It is called alone.
func (w *writer) inspect() error {
	if w.ledger.version != w.ledger.stored {
		if err := w.checkSide(); err != nil {
			return err
		}
	}
	g := w.current
	if g == nil {
		return nil
	}
	var torn error
	if g.torn {
		torn = w.repair(g)
	}
	held, err := g.f.Stat()
	if err != nil {
		g.torn = true // have it opened again
		return fault("stat", w.path, err)
	}
	named, err := w.env.fs.Stat(w.path)
	switch {
	case err != nil && !isNotExist(err):
		return fault("stat", w.path, err)
	case err == nil && sameFile(held, named):
		if torn != nil { // what was accepted is whole; the next Write reports
			return nil
		}
		return w.resize(g, held.Size())
	}
	if changed, err := w.linkChanged(); err != nil {
		return err
	} else if changed {
		return w.letGo(g)
	}
	if err := w.checkSide(); err != nil { // it may have gone with the file
		return err
	}
	if unlinked(held) && (g.length > g.safe || len(w.pending) > 0) {
		return w.rescue(g)
	}
	if torn != nil {
		return torn
	}
	return w.letGo(g)
}

// resize adopts a length that another program gave the file. Records that it
// removed cannot be distinguished from records that a copytruncate has copied.
func (w *writer) resize(g *segment, size int64) error {
	if size == g.length {
		return nil
	}
	w.env.log.Warn("another program changed the length of the file", "path", w.path, "expected_bytes", g.length, "found_bytes", size)
	end, err := w.cutTorn(g.f, size, g.codec)
	if err != nil {
		return fault("cut the torn end of", w.path, err)
	}
	g.length, g.safe, g.synced = end, min(g.safe, end), -1
	w.ledger.version++
	return nil
}

// letGo ends a file that was moved or deleted: once it is safe, and the
// checkpoint says so, it need not be found again. The checkpoint still names it, for
// if it cannot be stored for certain, more records go into the file.
func (w *writer) letGo(g *segment) error {
	s := w.env
	s.log.Info("file was moved or deleted; the next record opens the path again", "path", w.path)
	if err := w.seal(g); err != nil {
		return err
	}
	if s.exact && g.named { // else there is nothing in it
		if err := w.store(g, w.ledger.snapshot()); err != nil {
			return err
		}
	}
	w.current = nil
	if err := g.f.Close(); err != nil {
		s.log.Warn("closing a moved file failed", "path", w.path, "error", err)
	}
	return nil
}

// rescue writes what a deleted file held of unsafe records to a new one: they
// were accepted, and could not have been read from the deleted one.
func (w *writer) rescue(old *segment) error {
	err := w.beginRescue(old)
	g := w.current
	if err == nil {
		var n int64
		n, err = io.Copy(g.f, io.NewSectionReader(old.f, old.safe, old.length-old.safe))
		if err != nil {
			w.undo(g, n)
			err = fault("write", w.path, err)
		} else {
			w.grown(g, n)
		}
	}
	if err != nil {
		w.rescued, w.current = g, old // and try again
		return err
	}
	_ = old.f.Close()
	w.ledger.version++
	w.env.log.Warn("file was deleted; its unsafe records were written to a new one", "path", w.path, "bytes", g.length)
	return nil
}

// beginRescue makes current the file that the records of a deleted one are written to:
// a new one, or that of an attempt before.
func (w *writer) beginRescue(old *segment) error {
	if w.current = w.rescued; w.current != nil {
		w.rescued = nil
		if w.current.torn {
			return w.repair(w.current)
		}
		return w.nameRescue()
	}
	if err := w.create(); err != nil {
		return err
	}
	switch g := w.current; {
	case g.length == 0:
		g.codec = old.codec // compression may have been changed since
	case g.codec != old.codec:
		err := fmt.Errorf("write %s: another program put a file with other compression there; move it away", w.path)
		w.current = nil
		return errors.Join(err, g.f.Close())
	}
	return w.nameRescue()
}

// nameRescue has a checkpoint name the new file. The ledger in memory is ahead by the
// records that are to be copied.
func (w *writer) nameRescue() error {
	at := snapshot{id: w.ledger.id, version: w.ledger.stored}
	if w.last != nil {
		at.id, at.topics = w.last.Ledger, w.last.Topics
	}
	return w.name(at)
}

// linkChanged reports whether the path is a symbolic link that leads elsewhere by now.
func (w *writer) linkChanged() (bool, error) {
	real, err := w.env.fs.Resolve(w.path)
	if err != nil {
		return false, fault("open", w.path, err)
	}
	return real != w.real, nil
}
