package writer

import (
	"errors"
	"fmt"
	"io"

	"kcagent/logkey"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// detectChanges detects what other programs did to the file: they may have moved it, deleted
// it, or changed its length. A moved file keeps its records, and the next record opens the
// path again. All of this is rare, so records wait meanwhile. The caller holds both mutexes.
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
		g.tornTail = true // the next Write opens it again
		return sinkio.OpError("stat", w.Path, err)
	}
	named, err := w.env.fs.Stat(w.Path)
	switch {
	case err != nil && !disk.IsNotExist(err):
		return sinkio.OpError("stat", w.Path, err)
	case err == nil && disk.SameFile(held, named):
		if torn != nil { // what was accepted is whole; the next Write returns the error
			return nil
		}
		return w.acceptLength(g, held.Size())
	}
	if changed, err := w.linkChanged(); err != nil {
		return err
	} else if changed {
		return w.releaseSegment(g)
	}
	if err := w.checkStore(); err != nil { // it may have been moved with the file
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

// acceptLength accepts the length that another program gave the file. Records that were
// removed cannot be distinguished from records that copytruncate has copied.
func (w *Writer) acceptLength(g *segment, size int64) error {
	if size == g.length {
		return nil
	}
	w.env.Log.Warn("another program changed the length of the file", logkey.Path, w.Path, logkey.ExpectedBytes, g.length, logkey.FoundBytes, size)
	end, err := w.truncateTorn(g.f, size, g.codec)
	if err != nil {
		return sinkio.OpError("truncate the torn end of", w.Path, err)
	}
	g.length, g.flushed, g.synced = end, min(g.flushed, end), -1
	w.ledger.Version++
	return nil
}

// releaseSegment syncs and closes a file that was moved or deleted. After the checkpoint is
// stored, the file need not be found again. The checkpoint still names the file: if storing
// it fails, more records are appended to the file.
func (w *Writer) releaseSegment(g *segment) error {
	s := w.env
	s.Log.Info("file was moved or deleted; the next record opens the path again", logkey.Path, w.Path)
	if err := w.syncFinal(g); err != nil {
		return err
	}
	if s.ExactlyOnce && g.inCheckpoint { // otherwise the file holds nothing
		if err := w.saveCheckpoint(g, w.ledger.Snapshot()); err != nil {
			return err
		}
	}
	w.current = nil
	if err := g.f.Close(); err != nil {
		s.Log.Warn("closing a moved file failed", logkey.Path, w.Path, logkey.Error, err)
	}
	return nil
}

// rescueDeleted copies records that are not flushed from a deleted file to a new one. The
// sink has accepted them, and nobody else can read the deleted file.
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
		w.rescueSegment, w.current = g, old // the next flush tries again
		return err
	}
	_ = old.f.Close()
	w.ledger.Version++
	w.env.Log.Warn("file was deleted; records that were not flushed were copied to a new one", logkey.Path, w.Path, logkey.Bytes, g.length)
	return nil
}

// openRescueFile makes current the file to which the records of a deleted one are copied: a
// new file, or that of an earlier attempt.
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
		g.codec = old.codec // the configured compression may have changed
	case g.codec != old.codec:
		err := fmt.Errorf("write %s: another program created a file with another compression there; move it away", w.Path)
		w.current = nil
		return errors.Join(err, g.f.Close())
	}
	return w.addRescueToCheckpoint()
}

// addRescueToCheckpoint stores a checkpoint with the new file. The ledger in memory already
// contains the records that are still to be copied, so the checkpoint has the stored ledger.
func (w *Writer) addRescueToCheckpoint() error {
	at := checkpoint.Snapshot{ID: w.ledger.ID, Version: w.ledger.StoredVersion}
	if w.lastCheckpoint != nil {
		at.ID, at.Topics = w.lastCheckpoint.Ledger, w.lastCheckpoint.Topics
	}
	return w.addToCheckpoint(at)
}

// linkChanged reports whether the path is a symbolic link whose target has changed.
func (w *Writer) linkChanged() (bool, error) {
	real, err := w.env.fs.Resolve(w.Path)
	if err != nil {
		return false, sinkio.OpError("open", w.Path, err)
	}
	return real != w.realPath, nil
}
