package writer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// recover makes the file what the checkpoint says, whatever the previous process did when it
// ended. It may be interrupted, because the next start does the same again. It changes only
// data that is known to be this writer's, and that Kafka redelivers. The caller holds the
// lock of the path and both mutexes.
func (w *Writer) recover(c *checkpoint.Checkpoint) error {
	f, err := w.openDataFile()
	if err != nil {
		return err
	}
	if w.parked != nil {
		err = w.unpark(f, c)
	} else {
		err = w.recoverFile(f, c)
	}
	if err != nil && f != nil && (w.current == nil || w.current.f != f) {
		_ = f.Close()
	}
	return err
}

// openDataFile opens and locks the path's file; nil if there is none. It locks the file
// before it reads it: another writer may have the same file under another name, by a link.
func (w *Writer) openDataFile() (disk.File, error) {
	f, err := w.env.fs.OpenFile(w.Path, openFlags, 0)
	if disk.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, sinkio.OpError("open", w.Path, err)
	}
	if err := w.env.lockFile(f, w.Path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// recoverFile recovers from the checkpoint of a writer that was not parked; nil if there is
// none.
func (w *Writer) recoverFile(f disk.File, c *checkpoint.Checkpoint) error {
	var known match
	w.ledger, w.lastCheckpoint, w.isCopy, w.movedFile = checkpoint.NewLedger(), c, false, nil
	if c != nil {
		w.lastFinalTime = c.Completed
		w.restoreLedger(c)
		var err error
		if f, err = w.finishCompletion(f, c.Done); err != nil {
			return err
		}
		if known, err = w.matchFile(f, c); err != nil {
			return err
		}
	}
	if f == nil {
		return nil
	}
	g, err := w.newSegment(f, known)
	if err != nil {
		return sinkio.OpError("open", w.Path, err)
	}
	w.current = g
	return nil
}

// restoreLedger restores the ledger of a checkpoint. The offsets of another group do not
// apply to this one: then the file is continued, and the ledger starts empty.
func (w *Writer) restoreLedger(c *checkpoint.Checkpoint) {
	switch {
	case !w.env.ExactlyOnce || c.Delivery != sink.ExactlyOnce:
	case c.Group != w.env.group:
		w.env.Log.Warn("file was written for another group; continuing it at the offsets of this group",
			logkey.Path, w.Path, logkey.Group, w.env.group, logkey.PreviousGroup, c.Group)
	default:
		w.ledger = checkpoint.Restore(c)
	}
}

// finishCompletion renames a complete file to its final name, if the previous process crashed
// before it did. It returns the file that the path names then.
func (w *Writer) finishCompletion(f disk.File, m *checkpoint.FileState) (disk.File, error) {
	if f == nil || m == nil {
		return f, nil
	}
	info, err := f.Stat()
	if err != nil {
		return f, sinkio.OpError("stat", w.Path, err)
	}
	matches, err := m.MatchesContent(f, info.Size())
	if err != nil {
		return f, sinkio.OpError("read", w.Path, err)
	}
	if !matches || !m.IsFile(f, info) {
		return f, nil
	}
	if err := w.truncateTo(f, w.Path, info.Size(), m.Length); err != nil {
		return f, err
	}
	if w.env.durable() {
		// A crash may undo a truncation that is not synced, and the file will not be
		// truncated again.
		if err := f.Datasync(); err != nil {
			return f, sinkio.OpError("sync", w.Path, err)
		}
	}
	if err := w.renameComplete(m.Compression, m.Final); err != nil {
		return f, err
	}
	w.completeFile = m
	w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.realPath))
	return nil, f.Close()
}

// matchFile compares f with the file in the checkpoint.
func (w *Writer) matchFile(f disk.File, c *checkpoint.Checkpoint) (match, error) {
	m, exact := c.File, c.Delivery == sink.ExactlyOnce
	switch {
	case m == nil, f == nil && !exact:
		return match{}, nil
	case f == nil:
		w.movedFile = m
		return match{}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return match{}, sinkio.OpError("stat", w.Path, err)
	}
	same := m.IsFile(f, info)
	switch {
	case exact:
		return w.matchExactly(f, c, info, same)
	case same: // the checkpoint does not record its length
		return match{ours: true, codec: m.Compression, inCheckpoint: w.isOwnCheckpoint(c)}, nil
	}
	return match{}, nil
}

// isOwnCheckpoint reports whether this sink could have stored the checkpoint.
func (w *Writer) isOwnCheckpoint(c *checkpoint.Checkpoint) bool {
	return c.Group == w.env.group && c.Delivery == w.env.delivery()
}

// matchExactly compares f with the file in a checkpoint that was stored under exactly_once.
func (w *Writer) matchExactly(f disk.File, c *checkpoint.Checkpoint, info fs.FileInfo, same bool) (match, error) {
	m, size, log := c.File, info.Size(), w.env.Log
	matches, err := m.MatchesContent(f, size)
	if err != nil {
		return match{}, sinkio.OpError("read", w.Path, err)
	}
	switch {
	case size == 0 && !same: // created by the program that moved this writer's file
		w.movedFile = m
		return match{}, nil
	case size == 0 && m.Length > 0:
		log.Warn("file was truncated by another program; continuing in the empty file", logkey.Path, w.Path, logkey.ExpectedBytes, m.Length)
		return match{}, nil
	case matches && (same || m.Length > 0):
		if !same {
			log.Info("file is a copy of the one in the checkpoint; continuing it", logkey.Path, w.Path)
		}
		return match{ours: true, exact: true, same: same, length: m.Length, codec: m.Compression, inCheckpoint: same && w.isOwnCheckpoint(c)}, nil
	case c.Unsynced && (same || size < m.Length):
		log.Warn("file holds less than its checkpoint says; continuing at its end, records are missing", logkey.Path, w.Path,
			logkey.Durability, string(sink.None), logkey.ExpectedBytes, m.Length, logkey.FoundBytes, size)
		if !same {
			return match{}, nil
		}
		return match{ours: true, codec: m.Compression}, nil
	case same && size < m.Length:
		return match{}, fmt.Errorf("open %s: file has %d bytes, but %s requires %d; restore the file, or move both away to start a new one at the committed offsets",
			w.Path, size, w.realPath+filename.CheckpointSuffix, m.Length)
	}
	return match{}, fmt.Errorf("open %s: content does not match %s; restore the file, or move both away to start a new one at the committed offsets",
		w.Path, w.realPath+filename.CheckpointSuffix)
}

// truncateTo truncates a file of size bytes to length.
func (w *Writer) truncateTo(f disk.File, path string, size, length int64) error {
	if size == length {
		return nil
	}
	if err := f.Truncate(length); err != nil {
		return sinkio.OpError("truncate the uncovered end of", path, err)
	}
	w.env.Log.Info("truncated data not covered by the checkpoint; Kafka will redeliver it", logkey.Path, path, logkey.Bytes, size-length)
	return nil
}

// truncateUncovered truncates what the checkpoint does not cover. If the group has committed
// more than the checkpoint contains, the checkpoint is an old one, and Kafka would not
// redeliver the records. A copy of the file is truncated in any case: its original has the
// records.
func (w *Writer) truncateUncovered(committed sink.Commits) error {
	g := w.current
	if g != nil && g.uncovered > 0 {
		if !w.isCopy {
			if err := w.checkAge(committed); err != nil {
				return err
			}
		}
		if err := w.truncateTo(g.f, w.Path, g.length+g.uncovered, g.length); err != nil {
			return err
		}
		g.tornTail, g.uncovered = false, 0
	}
	return w.truncateMoved(committed)
}

// checkAge returns an error if the group has committed more under the checkpoint's ledger
// than the ledger contains.
func (w *Writer) checkAge(committed sink.Commits) error {
	if committed == nil || w.lastCheckpoint == nil || w.lastCheckpoint.Unsynced {
		return nil
	}
	for tp, at := range committed(w.lastCheckpoint.Ledger) {
		if in, known := w.ledger.Entries[tp]; !known || at.Lineage == in.Lineage && at.Next > in.Next {
			return fmt.Errorf("open %s: %s is older than the file and the committed offsets; "+
				"restore the checkpoint of the file, or move both away to start a new one at the committed offsets",
				w.Path, w.realPath+filename.CheckpointSuffix)
		}
	}
	return nil
}

// truncateMoved truncates a file that was moved within its folder while it was not open, to
// what the checkpoint covers. If the file is not in the folder, it was deleted or moved
// elsewhere.
func (w *Writer) truncateMoved(committed sink.Commits) error {
	m := w.movedFile
	if m == nil {
		return nil
	}
	dir := filepath.Dir(w.realPath)
	var candidates []string
	err := w.env.fs.List(dir, func(name string, inode uint64) bool {
		// A complete file is never changed.
		if _, _, complete := filename.ParseComplete(name); inode == m.Inode && name != filepath.Base(w.realPath) && !complete {
			candidates = append(candidates, filepath.Join(dir, name))
		}
		return true
	})
	if err != nil && !disk.IsNotExist(err) {
		return sinkio.OpError("list", dir, err)
	}
	for _, path := range candidates {
		done, err := w.truncateIfOurs(path, m, committed)
		if err != nil {
			return err
		}
		if done {
			w.movedFile = nil
			return nil
		}
	}
	if m.Length > 0 {
		w.env.Log.Warn("file was removed; continuing in a new one", logkey.Path, w.Path, logkey.Bytes, m.Length)
	}
	w.movedFile = nil
	return nil
}

// truncateIfOurs truncates a file if it is the recorded one. It does not change a file that
// another writer has, which has a checkpoint beside it or is locked.
func (w *Writer) truncateIfOurs(path string, m *checkpoint.FileState, committed sink.Commits) (bool, error) {
	if _, err := w.env.fs.Lstat(path + filename.CheckpointSuffix); !disk.IsNotExist(err) {
		if err != nil {
			return false, sinkio.OpError("stat", path+filename.CheckpointSuffix, err)
		}
		return false, nil
	}
	f, err := w.env.fs.OpenFile(path, os.O_RDWR, 0)
	if disk.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, sinkio.OpError("open", path, err)
	}
	defer f.Close()
	if err := f.Lock(); errors.Is(err, disk.ErrLocked) {
		return false, nil
	} else if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return false, sinkio.OpError("lock", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return false, sinkio.OpError("stat", path, err)
	}
	matches, err := m.MatchesContent(f, info.Size())
	if err != nil {
		return false, sinkio.OpError("read", path, err)
	}
	if !matches || !m.IsFile(f, info) || m.Born == 0 && m.Length == 0 {
		return false, nil
	}
	if info.Size() > m.Length {
		if err := w.checkAge(committed); err != nil {
			return false, err
		}
	}
	w.env.Log.Info("file was moved; continuing in a new one", logkey.Path, w.Path, logkey.To, path)
	if err := w.truncateTo(f, path, info.Size(), m.Length); err != nil {
		return true, err
	}
	// The next checkpoint names the new file, so this one would not be truncated again after
	// a crash.
	if err := f.Datasync(); err != nil {
		return true, sinkio.OpError("sync", path, err)
	}
	return true, nil
}
