package writer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/compress"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// How a file is completed, so that a crash at any moment loses and repeats nothing:
//
//  1. The file is synced. It gets no more bytes.
//  2. A checkpoint says that it is done, and that no file grows.
//  3. It is renamed to its final name, which never replaces another file.
//
// The next file is created with the next record, and named by a checkpoint before
// that. A crash between 2 and 3 leaves the file under the path's name: the next
// opening knows it by the checkpoint, and renames it.

// MinFrame is how much a frame of a compressed file holds at least while the file
// approaches rotate.size: smaller ones would hardly be compressed.
const MinFrame = 4 << 10

// growingSegment is the growing file, also while it is closed to save descriptors; nil if
// there is none.
func (w *Writer) growingSegment() *segment {
	if w.parked != nil {
		return w.parked.current
	}
	return w.current
}

// completionDue reports whether the growing file is to be completed before another record.
func (w *Writer) completionDue(now time.Time) bool {
	g, spec := w.growingSegment(), w.env.Spec.Load()
	if g == nil || g.length == 0 && len(w.buffer) == 0 || w.env.NoRename.Load() {
		return false
	}
	if g.codec != w.env.compression() {
		return true
	}
	r := spec.Rotate
	if r == nil {
		return false
	}
	if r.Size > 0 && g.length >= int64(r.Size) {
		return true
	}
	return r.Every > 0 && !g.firstWrite.IsZero() && !r.InPeriod(g.firstWrite, now)
}

// exceeds reports whether current would become larger than rotate.size by more than
// the last record of the chunk, or by more than a small frame. frame is how long the
// chunk is compressed; 0 if that is not known.
func (w *Writer) exceeds(c sink.Chunk, frame int) bool {
	g, r := w.current, w.env.Spec.Load().Rotate
	if r == nil || r.Size == 0 || g.length == 0 && len(w.buffer) == 0 || w.env.NoRename.Load() {
		return false
	}
	n, most := len(w.buffer)+c.Last, int64(r.Size)
	if g.codec != sink.Uncompressed {
		// Frames are at most some bytes larger than their records.
		most += MinFrame
		if frame > 0 {
			n = frame
		}
	}
	return g.length+int64(n) > most
}

// frameLimit is how many bytes are compressed together.
func (w *Writer) frameLimit() int {
	r := w.env.Spec.Load().Rotate
	if r == nil || r.Size == 0 || w.current == nil {
		return compress.FrameSize()
	}
	left := int64(r.Size) - w.current.length
	return int(max(MinFrame, min(left, int64(compress.FrameSize()))))
}

// roomLocked is how many bytes current can hold until it reaches rotate.size; 0 if that
// is unknown.
func (w *Writer) roomLocked() int64 {
	r, g := w.env.Spec.Load().Rotate, w.current
	if r == nil || r.Size == 0 || g == nil {
		return 0
	}
	left := int64(r.Size) - g.length - int64(len(w.buffer))
	if g.codec != sink.Uncompressed {
		left = max(left, MinFrame)
	}
	return left
}

// deadlineLocked is deadline. It is called with the turn.
func (w *Writer) deadlineLocked() time.Time {
	g, r := w.growingSegment(), w.env.Spec.Load().Rotate
	if g == nil || r == nil || r.Every == 0 || g.firstWrite.IsZero() {
		return time.Time{}
	}
	return r.PeriodEnd(g.firstWrite)
}

// completeFor completes current if a chunk has no room in it. It is called alone.
func (w *Writer) completeFor(c sink.Chunk, frame int) error {
	if w.store == nil || w.current == nil {
		return nil
	}
	if !w.completionDue(w.env.now()) && !w.exceeds(c, frame) { // completed meanwhile
		return nil
	}
	return w.complete()
}

// CompleteIfDue completes the growing file if that is due.
func (w *Writer) CompleteIfDue() error {
	return w.withLocks(context.Background(), w.completeIfDueLocked)
}

func (w *Writer) completeIfDueLocked() error {
	if w.lost != nil || !w.completionDue(w.env.now()) {
		return nil
	}
	if err := w.open(); err != nil || w.current == nil || w.current.uncovered > 0 {
		return err // what is uncovered is cut when a partition resumes
	}
	return w.complete()
}

// complete completes current, if the path still names it. It is called alone.
func (w *Writer) complete() error {
	s, g := w.env, w.current
	if g.tornTail {
		if err := w.repairTail(g); err != nil {
			return err
		}
	}
	if err := w.detectChanges(); err != nil || w.current != g {
		return err
	}
	if err := w.checkLink(); err != nil {
		return err
	}
	if err := w.syncFinal(g); err != nil {
		return err
	}
	at := w.finalTime()
	if s.ExactlyOnce {
		mark, err := stateOf(g, g.f, g.length)
		if err != nil {
			return err
		}
		mark.Final = at
		w.completeFile = mark
		g.inCheckpoint = false // also if it is unknown whether the next checkpoint is stored
		if err := w.saveCheckpointOf(nil, w.ledger.Snapshot()); err != nil {
			w.completeFile = nil
			return err
		}
	}
	g.flushed, g.inCheckpoint = g.length, false
	if err := w.renameComplete(g.codec, at); err != nil {
		// More records may go into the file after all. A later checkpoint that said
		// that it is done would have them cut off.
		w.completeFile = nil
		return w.handleRenameError(err)
	}
	w.current = nil
	w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.real))
	if err := g.f.Close(); err != nil {
		s.Log.Warn("closing a complete file failed", "path", w.Path, "error", err)
	}
	return nil
}

// syncFinal writes what is pending to a file that gets no more bytes, and syncs it. That is
// done even if nothing was written since the last sync: a cut that is not synced may come
// undone, and the file will not be cut again.
func (w *Writer) syncFinal(g *segment) error {
	if err := w.writeBuffer(); err != nil {
		return err
	}
	if err := g.trim(); err != nil {
		return err
	}
	if !w.env.durable() {
		return nil
	}
	if err := g.f.Datasync(); err != nil {
		return w.markLost(sinkio.OpError("sync", w.Path, err))
	}
	g.synced, g.syncedTruncations = g.length, g.truncations
	return nil
}

// finalTime is the time in the name of a file that is complete now: names sort in the
// order of the files also if the clock was set back.
//
// An attempt that failed may have left the file under its name, so the next takes it
// again.
func (w *Writer) finalTime() time.Time {
	if w.triedFinalTime.After(w.lastFinalTime) {
		return w.triedFinalTime
	}
	w.triedFinalTime = w.env.now().UTC().Truncate(time.Millisecond)
	if !w.triedFinalTime.After(w.lastFinalTime) {
		w.triedFinalTime = w.lastFinalTime.Add(time.Millisecond)
	}
	return w.triedFinalTime
}

// renameComplete gives the path's file a final name that no file has, at best that of a
// time. Where a rename is a link and a removal, a crash or an error may have left it
// under both names.
func (w *Writer) renameComplete(c sink.Compression, at time.Time) error {
	for {
		final := filepath.Join(filepath.Dir(w.real), filename.Complete(w.Path, at, c))
		err := w.env.fs.Rename(w.Path, final)
		if errors.Is(err, fs.ErrExist) && w.hasFinalName(final) {
			err = w.env.fs.Remove(w.Path)
		}
		switch {
		case err == nil:
			w.lastFinalTime, w.triedFinalTime = at, at
			w.env.Log.Info("file is complete", "path", final)
			w.env.OnComplete(w.Path, final, at)
			return nil
		case errors.Is(err, fs.ErrExist):
			at = at.Add(time.Millisecond)
		default:
			return sinkio.OpError("rename", w.Path, err)
		}
	}
}

// hasFinalName reports whether the path's file has a final name already.
func (w *Writer) hasFinalName(final string) bool {
	a, err1 := w.env.fs.Lstat(w.Path)
	b, err2 := w.env.fs.Lstat(final)
	return err1 == nil && err2 == nil && disk.SameFile(a, b)
}

// handleRenameError decides what follows from a file that cannot be renamed. Where the file system
// has no renames, at_least_once lets it grow.
func (w *Writer) handleRenameError(err error) error {
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if w.env.ExactlyOnce {
		return fmt.Errorf("%w; rotate requires renames: use another file system or delivery: at_least_once", err)
	}
	if !w.env.NoRename.Swap(true) {
		w.env.Log.Warn("file system has no renames; files are not rotated", "path", w.Path, "error", err)
	}
	w.current.inCheckpoint = true
	return nil
}
