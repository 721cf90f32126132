package writer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// recover makes the file what the checkpoint says, whatever the process before did
// when it ended. What it does may be done again, so it may itself be interrupted. It
// destroys nothing that is not known to be this writer's and to be read from Kafka
// again. It is called alone, with the lock.
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

// openDataFile opens and locks the path's file; nil if there is none. The lock comes
// before a look at it: another writer that has the file under another name, by a
// link, must not lose what it writes.
func (w *Writer) openDataFile() (disk.File, error) {
	f, err := w.env.fs.OpenFile(w.Path, openFlags, 0)
	if disk.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, sinkio.OpError("open", w.Path, err)
	}
	if err := w.env.lock(f, w.Path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

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

// restoreLedger takes over the ledger of a checkpoint. Offsets of another group do not
// say where this one is: the file continues, the ledger begins empty.
func (w *Writer) restoreLedger(c *checkpoint.Checkpoint) {
	switch {
	case !w.env.ExactlyOnce || c.Delivery != sink.ExactlyOnce:
	case c.Group != w.env.group:
		w.env.Log.Warn("file was filled for another group; continuing it at this group's offsets",
			"path", w.Path, "group", w.env.group, "previous_group", c.Group)
	default:
		w.ledger = checkpoint.Restore(c)
	}
}

// finishCompletion gives a file that is complete its final name, if the process
// before died in between, and returns the file that the path names then.
func (w *Writer) finishCompletion(f disk.File, m *checkpoint.FileState) (disk.File, error) {
	if f == nil || m == nil {
		return f, nil
	}
	info, err := f.Stat()
	if err != nil {
		return f, sinkio.OpError("stat", w.Path, err)
	}
	holds, err := m.MatchesContent(f, info.Size())
	if err != nil {
		return f, sinkio.OpError("read", w.Path, err)
	}
	if !holds || !m.IsFile(f, info) {
		return f, nil
	}
	if err := w.truncateUncoveredBytes(f, w.Path, info.Size(), m.Length); err != nil {
		return f, err
	}
	if w.env.durable() {
		// A cut that is not synced may come undone, and the file will not be cut again.
		if err := f.Datasync(); err != nil {
			return f, sinkio.OpError("sync", w.Path, err)
		}
	}
	if err := w.renameComplete(m.Compression, m.Final); err != nil {
		return f, err
	}
	w.completeFile = m
	w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.real))
	return nil, f.Close()
}

// matchFile finds out whether f is the file that the checkpoint describes, and makes it
// that.
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
	case same: // its length was not kept
		return match{ours: true, codec: m.Compression, inCheckpoint: w.isOwnCheckpoint(c)}, nil
	}
	return match{}, nil
}

// isOwnCheckpoint reports whether the checkpoint is one that this sink would have stored.
func (w *Writer) isOwnCheckpoint(c *checkpoint.Checkpoint) bool {
	return c.Group == w.env.group && c.Delivery == w.env.delivery()
}

func (w *Writer) matchExactly(f disk.File, c *checkpoint.Checkpoint, info fs.FileInfo, same bool) (match, error) {
	m, size, log := c.File, info.Size(), w.env.Log
	holds, err := m.MatchesContent(f, size)
	if err != nil {
		return match{}, sinkio.OpError("read", w.Path, err)
	}
	switch {
	case size == 0 && !same: // created by the program that moved ours
		w.movedFile = m
		return match{}, nil
	case size == 0 && m.Length > 0:
		log.Warn("file was truncated by another program; continuing it", "path", w.Path, "expected_bytes", m.Length)
		return match{}, nil
	case holds && (same || m.Length > 0):
		if !same {
			log.Info("file is a copy of the one in the checkpoint; continuing it", "path", w.Path)
		}
		return match{ours: true, exact: true, same: same, length: m.Length, codec: m.Compression, inCheckpoint: same && w.isOwnCheckpoint(c)}, nil
	case c.Unsynced && (same || size < m.Length):
		log.Warn("file holds less than its checkpoint says; continuing at its end, records are missing", "path", w.Path,
			"durability", string(sink.None), "expected_bytes", m.Length, "found_bytes", size)
		if !same {
			return match{}, nil
		}
		return match{ours: true, codec: m.Compression}, nil
	case same && size < m.Length:
		return match{}, fmt.Errorf("open %s: it has %d bytes, but %s says that %d are safe: restore the file, or move both away to begin a new one at the committed offsets",
			w.Path, size, w.real+filename.CheckpointSuffix, m.Length)
	}
	return match{}, fmt.Errorf("open %s: its content is not that of the file in %s: put the right file back, or move both away to begin a new one at the committed offsets",
		w.Path, w.real+filename.CheckpointSuffix)
}

// truncateUncoveredBytes cuts off what the checkpoint does not cover.
func (w *Writer) truncateUncoveredBytes(f disk.File, path string, size, length int64) error {
	if size == length {
		return nil
	}
	if err := f.Truncate(length); err != nil {
		return sinkio.OpError("cut the unsafe end of", path, err)
	}
	w.env.Log.Info("truncated data not covered by the checkpoint; Kafka will redeliver it", "path", path, "bytes", size-length)
	return nil
}

// truncateUncovered cuts off what the checkpoint does not cover. If the group has committed
// more, the checkpoint is an old one, and Kafka would not bring the records again. A copy
// of the file is cut all the same: the records are in the original.
func (w *Writer) truncateUncovered(committed sink.Commits) error {
	g := w.current
	if g != nil && g.uncovered > 0 {
		if !w.isCopy {
			if err := w.checkAge(committed); err != nil {
				return err
			}
		}
		if err := w.truncateUncoveredBytes(g.f, w.Path, g.length+g.uncovered, g.length); err != nil {
			return err
		}
		g.tornTail, g.uncovered = false, 0
	}
	return w.truncateMoved(committed)
}

// checkAge returns an error if the group has committed more under the checkpoint's id
// than it holds.
func (w *Writer) checkAge(committed sink.Commits) error {
	if committed == nil || w.lastCheckpoint == nil || w.lastCheckpoint.Unsynced {
		return nil
	}
	for tp, at := range committed(w.lastCheckpoint.Ledger) {
		if in, known := w.ledger.Entries[tp]; !known || at.Lineage == in.Lineage && at.Next > in.Next {
			return fmt.Errorf("open %s: %s is older than the group's committed offsets, and than the file: "+
				"restore the checkpoint that belongs to the file, or move both away to begin a new one at the committed offsets",
				w.Path, w.real+filename.CheckpointSuffix)
		}
	}
	return nil
}

// truncateMoved takes what the checkpoint does not cover off a file that was moved
// within its folder while it was not open. If it is not found there, it was deleted
// or moved farther, which its owner may do.
func (w *Writer) truncateMoved(committed sink.Commits) error {
	m := w.movedFile
	if m == nil {
		return nil
	}
	dir := filepath.Dir(w.real)
	var candidates []string
	err := w.env.fs.List(dir, func(name string, inode uint64) bool {
		// A complete file is not the growing one any more, and is never changed.
		if _, _, complete := filename.ParseComplete(name); inode == m.Inode && name != filepath.Base(w.real) && !complete {
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
		w.env.Log.Warn("file was removed; continuing in a new one", "path", w.Path, "bytes", m.Length)
	}
	w.movedFile = nil
	return nil
}

// truncateIfOurs cuts a file that is the one described. One that another writer has is
// left alone: it lies beside a checkpoint, or is locked.
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
	holds, err := m.MatchesContent(f, info.Size())
	if err != nil {
		return false, sinkio.OpError("read", path, err)
	}
	if !holds || !m.IsFile(f, info) || m.Born == 0 && m.Length == 0 {
		return false, nil
	}
	if info.Size() > m.Length {
		if err := w.checkAge(committed); err != nil {
			return false, err
		}
	}
	w.env.Log.Info("file was moved; continuing in a new one", "path", w.Path, "to", path)
	if err := w.truncateUncoveredBytes(f, path, info.Size(), m.Length); err != nil {
		return true, err
	}
	// The next checkpoint names the new file, so this one is not cut again if the
	// machine forgets it.
	if err := f.Datasync(); err != nil {
		return true, sinkio.OpError("sync", path, err)
	}
	return true, nil
}
