package writer

import (
	"errors"
	"fmt"
	"io"

	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// detectChanges notices what others did to the file: moved it (its records stay in
// it, the next one opens the path again), deleted it, or changed its length.
// None of these is frequent, so the records wait meanwhile. It is called alone.
func (w *Writer) detectChanges() error {
	if w.ledger.Version != w.ledger.StoredVersion {
		if err := w.checkStore(); err != nil {
			return err
		}
	}
	g := w.current
	if g == nil {
		return nil
	}
	var torn error
	if g.tornTail {
		torn = w.repairTail(g)
	}
	held, err := g.f.Stat()
	if err != nil {
		g.tornTail = true // have it opened again
		return sinkio.OpError("stat", w.Path, err)
	}
	named, err := w.env.fs.Stat(w.Path)
	switch {
	case err != nil && !disk.IsNotExist(err):
		return sinkio.OpError("stat", w.Path, err)
	case err == nil && disk.SameFile(held, named):
		if torn != nil { // what was accepted is whole; the next Write reports
			return nil
		}
		return w.acceptLength(g, held.Size())
	}
	if changed, err := w.linkChanged(); err != nil {
		return err
	} else if changed {
		return w.releaseSegment(g)
	}
	if err := w.checkStore(); err != nil { // it may have gone with the file
		return err
	}
	if disk.Unlinked(held) && (g.length > g.flushed || len(w.buffer) > 0) {
		return w.rescueDeleted(g)
	}
	if torn != nil {
		return torn
	}
	return w.releaseSegment(g)
}

// acceptLength adopts a length that another program gave the file. Records that it
// removed cannot be distinguished from records that a copytruncate has copied.
func (w *Writer) acceptLength(g *segment, size int64) error {
	if size == g.length {
		return nil
	}
	w.env.Log.Warn("another program changed the length of the file", "path", w.Path, "expected_bytes", g.length, "found_bytes", size)
	end, err := w.truncateTorn(g.f, size, g.codec)
	if err != nil {
		return sinkio.OpError("cut the torn end of", w.Path, err)
	}
	g.length, g.flushed, g.synced = end, min(g.flushed, end), -1
	w.ledger.Version++
	return nil
}

// releaseSegment ends a file that was moved or deleted: once it is safe, and the
// checkpoint says so, it need not be found again. The checkpoint still names it, for
// if it cannot be stored for certain, more records go into the file.
func (w *Writer) releaseSegment(g *segment) error {
	s := w.env
	s.Log.Info("file was moved or deleted; the next record opens the path again", "path", w.Path)
	if err := w.syncFinal(g); err != nil {
		return err
	}
	if s.ExactlyOnce && g.inCheckpoint { // else there is nothing in it
		if err := w.saveCheckpoint(g, w.ledger.Snapshot()); err != nil {
			return err
		}
	}
	w.current = nil
	if err := g.f.Close(); err != nil {
		s.Log.Warn("closing a moved file failed", "path", w.Path, "error", err)
	}
	return nil
}

// rescueDeleted writes what a deleted file held of unsafe records to a new one: they
// were accepted, and could not have been read from the deleted one.
func (w *Writer) rescueDeleted(old *segment) error {
	err := w.openRescueFile(old)
	g := w.current
	if err == nil {
		var n int64
		n, err = io.Copy(g.f, io.NewSectionReader(old.f, old.flushed, old.length-old.flushed))
		if err != nil {
			w.undoWrite(g, n)
			err = sinkio.OpError("write", w.Path, err)
		} else {
			w.recordGrowth(g, n)
		}
	}
	if err != nil {
		w.rescueSegment, w.current = g, old // and try again
		return err
	}
	_ = old.f.Close()
	w.ledger.Version++
	w.env.Log.Warn("file was deleted; its unsafe records were written to a new one", "path", w.Path, "bytes", g.length)
	return nil
}

// openRescueFile makes current the file that the records of a deleted one are written to:
// a new one, or that of an attempt before.
func (w *Writer) openRescueFile(old *segment) error {
	if w.current = w.rescueSegment; w.current != nil {
		w.rescueSegment = nil
		if w.current.tornTail {
			return w.repairTail(w.current)
		}
		return w.addRescueToCheckpoint()
	}
	if err := w.create(); err != nil {
		return err
	}
	switch g := w.current; {
	case g.length == 0:
		g.codec = old.codec // compression may have been changed since
	case g.codec != old.codec:
		err := fmt.Errorf("write %s: another program put a file with other compression there; move it away", w.Path)
		w.current = nil
		return errors.Join(err, g.f.Close())
	}
	return w.addRescueToCheckpoint()
}

// addRescueToCheckpoint has a checkpoint name the new file. The ledger in memory is ahead by the
// records that are to be copied.
func (w *Writer) addRescueToCheckpoint() error {
	at := checkpoint.Snapshot{ID: w.ledger.ID, Version: w.ledger.StoredVersion}
	if w.lastCheckpoint != nil {
		at.ID, at.Topics = w.lastCheckpoint.Ledger, w.lastCheckpoint.Topics
	}
	return w.addToCheckpoint(at)
}

// linkChanged reports whether the path is a symbolic link that leads elsewhere by now.
func (w *Writer) linkChanged() (bool, error) {
	real, err := w.env.fs.Resolve(w.Path)
	if err != nil {
		return false, sinkio.OpError("open", w.Path, err)
	}
	return real != w.real, nil
}
