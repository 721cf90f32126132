package writer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"kcagent/limits"
	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// A file is completed in three steps, so that a crash at any moment loses and repeats
// nothing. Each step is durable before the next one begins:
//
//  1. The file is synced. It gets no more bytes.
//  2. A checkpoint says that the file is done, and that no file grows.
//  3. The file is renamed to its final name. This never replaces another file.
//
// The next file is created with the next record, and a checkpoint names it before that. A
// crash between steps 2 and 3 leaves the file under the name of the path: the next start
// recognises it by the checkpoint, and renames it.

// MinFrame is the least length of a compressed frame while the file approaches rotate.size.
// Smaller frames would hardly be compressed.
const MinFrame = 4 << 10

// growingSegment returns the growing file, also while it is parked; nil if there is none.
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

// exceeds reports whether the chunk would make current larger than rotate.size by more than
// its last record, or by more than a small frame. frame is the compressed length of the
// chunk; 0 if unknown.
func (w *Writer) exceeds(c sink.Chunk, frame int) bool {
	g, r := w.current, w.env.Spec.Load().Rotate
	if r == nil || r.Size == 0 || g.length == 0 && len(w.buffer) == 0 || w.env.NoRename.Load() {
		return false
	}
	n, most := len(w.buffer)+c.Last, int64(r.Size)
	if g.codec != sink.Uncompressed {
		// A frame is only a few bytes larger than its records.
		most += MinFrame
		if frame > 0 {
			n = frame
		}
	}
	return g.length+int64(n) > most
}

// frameLimit returns how many bytes are compressed together.
func (w *Writer) frameLimit() int {
	if limits.Records.TooManyPending() {
		return MinFrame
	}
	r := w.env.Spec.Load().Rotate
	if r == nil || r.Size == 0 || w.current == nil {
		return compress.FrameSize()
	}
	left := int64(r.Size) - w.current.length
	return int(max(MinFrame, min(left, int64(compress.FrameSize()))))
}

// roomLocked returns how many bytes current can take before it reaches rotate.size; 0 if
// unknown. The caller holds mu.
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

// deadlineLocked is [Writer.Deadline]. The caller holds mu.
func (w *Writer) deadlineLocked() time.Time {
	g, r := w.growingSegment(), w.env.Spec.Load().Rotate
	if g == nil || r == nil || r.Every == 0 || g.firstWrite.IsZero() {
		return time.Time{}
	}
	return r.PeriodEnd(g.firstWrite)
}

// completeFor completes current if the chunk does not fit in it. The caller holds both
// mutexes.
func (w *Writer) completeFor(c sink.Chunk, frame int) error {
	if w.store == nil || w.current == nil {
		return nil
	}
	if !w.completionDue(w.env.now()) && !w.exceeds(c, frame) { // another goroutine has completed it
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
		return err // uncovered bytes are truncated when a partition resumes
	}
	return w.complete()
}

// complete completes current, if the path still names it. The caller holds both mutexes.
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
		state, err := stateOf(g, g.f, g.length)
		if err != nil {
			return err
		}
		state.Final = at
		w.completeFile = state
		g.inCheckpoint = false // even if it is unknown whether the next checkpoint is stored
		if err := w.saveCheckpointOf(nil, w.ledger.Snapshot()); err != nil {
			w.completeFile = nil
			return err
		}
	}
	g.flushed, g.inCheckpoint = g.length, false
	if err := w.renameComplete(g.codec, at); err != nil {
		// More records may be appended to the file after all. If a later checkpoint said
		// that it is done, the next start would truncate them.
		w.completeFile = nil
		return w.handleRenameError(err)
	}
	w.current = nil
	w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.realPath))
	if err := g.f.Close(); err != nil {
		s.Log.Warn("closing a complete file failed", logkey.Path, w.Path, logkey.Error, err)
	}
	return nil
}

// syncFinal writes the buffer to a file that gets no more bytes, and syncs the file. It
// syncs even if nothing was written since the last sync, because a truncation that is not
// synced may be undone by a crash, and the file will not be truncated again.
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

// finalTime returns the time in the name of a file that is complete now. Names sort in the
// order of the files even if the clock was set back.
//
// A failed attempt may have left the file under its final name, so the next attempt uses the
// same time.
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

// renameComplete renames the path's file to a final name that no other file has, if possible
// with the given time. Without a rename call, a rename is a link and a removal. Then a crash
// or an error may have left the file under both names.
func (w *Writer) renameComplete(c sink.Compression, at time.Time) error {
	for {
		final := filepath.Join(filepath.Dir(w.realPath), filename.Complete(w.Path, at, c))
		err := w.env.fs.Rename(w.Path, final)
		if errors.Is(err, fs.ErrExist) && w.hasFinalName(final) {
			err = w.env.fs.Remove(w.Path)
		}
		switch {
		case err == nil:
			w.lastFinalTime, w.triedFinalTime = at, at
			w.env.Log.Info("file is complete", logkey.Path, final)
			w.env.OnComplete(w.Path, final, at)
			return nil
		case errors.Is(err, fs.ErrExist):
			at = at.Add(time.Millisecond)
		default:
			return sinkio.OpError("rename", w.Path, err)
		}
	}
}

// hasFinalName reports whether the path's file already has a final name.
func (w *Writer) hasFinalName(final string) bool {
	a, err1 := w.env.fs.Lstat(w.Path)
	b, err2 := w.env.fs.Lstat(final)
	return err1 == nil && err2 == nil && disk.SameFile(a, b)
}

// handleRenameError handles a file that cannot be renamed. If the file system has no
// renames, the file keeps growing under at_least_once.
func (w *Writer) handleRenameError(err error) error {
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if w.env.ExactlyOnce {
		return fmt.Errorf("%w; rotate requires renames: use another file system or delivery: at_least_once", err)
	}
	if !w.env.NoRename.Swap(true) {
		w.env.Log.Warn("file system has no renames; files are not rotated", logkey.Path, w.Path, logkey.Error, err)
	}
	w.current.inCheckpoint = true
	return nil
}
