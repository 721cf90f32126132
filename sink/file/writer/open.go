package writer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/sinkio"
)

// openFlags let every write go to the end of the file, even if another program has changed
// its length. Written data can be read again.
const openFlags = os.O_RDWR | os.O_APPEND

// openForAppend makes current a file to which records may be appended: it opens the path,
// and stores a checkpoint with the file. After a crash, a checkpoint without the file would
// not say which of its bytes are records of this sink. The caller holds both mutexes.
func (w *Writer) openForAppend() error {
	if err := w.open(); err != nil {
		return err
	}
	if err := w.truncateMoved(nil); err != nil {
		return err
	}
	if w.current == nil {
		if err := w.create(); err != nil {
			return err
		}
	}
	return w.addToCheckpoint(w.ledger.Snapshot())
}

// openLiteralPath opens a path without placeholders before there is a record, so that an
// unusable path is reported. A file that was moved waits for Resume, which knows what may be
// truncated. The caller holds both mutexes.
func (w *Writer) openLiteralPath() error {
	if err := w.open(); err != nil || w.movedFile != nil {
		return err
	}
	return w.openForAppend()
}

// addToCheckpoint stores a checkpoint with the growing file, and with a ledger whose records
// are durable.
func (w *Writer) addToCheckpoint(at checkpoint.Snapshot) error {
	g := w.current
	if g.inCheckpoint {
		return nil
	}
	if w.env.durable() {
		// The names are synced first. Otherwise a crash could bring back another file under
		// the path, which the checkpoint does not describe.
		if err := w.syncFolderNames(w.unsyncedFolders); err != nil {
			return err
		}
		w.unsyncedFolders = nil
		if g.length > 0 { // content that another program left in it
			if err := g.f.Datasync(); err != nil {
				return sinkio.OpError("sync", w.Path, err)
			}
		}
	}
	w.completeFile = nil
	if err := w.saveCheckpoint(g, at); err != nil {
		return err
	}
	g.inCheckpoint = true
	return nil
}

// open opens a closed writer: it locks the path, reads the checkpoint, and makes the file
// what the checkpoint says. It creates no data file. The caller holds both mutexes.
func (w *Writer) open() error {
	if w.lost != nil {
		return w.lost
	}
	if w.store != nil {
		return nil
	}
	if err := w.checkPath(); err != nil {
		return err
	}
	real, err := w.env.fs.Resolve(w.Path)
	if err != nil {
		return sinkio.OpError("open", w.Path, err)
	}
	if w.parked != nil && real != w.realPath {
		return w.markLinkLost() // the parked file has its checkpoint elsewhere
	}
	w.realPath = real
	if err := w.makeFolders(w.env.mode()); err != nil {
		return err
	}
	if err := w.env.pool.acquire(w); err != nil {
		return fmt.Errorf("open %s: %w", w.Path, err)
	}
	c, err := w.openStore()
	if err == nil {
		err = w.recover(c)
	}
	if err != nil {
		return errors.Join(err, w.closeFiles(false))
	}
	if c == nil { // otherwise openStore has synced the folder
		w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.realPath))
	}
	return nil
}

// checkPath checks that the path can be written as the spec says.
func (w *Writer) checkPath() error {
	if err := filename.Check(w.Path); err != nil {
		return err
	}
	switch info, err := w.env.fs.Stat(w.Path); {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("open %s: not a regular file", w.Path)
	case err != nil && !disk.IsNotExist(err):
		return sinkio.OpError("open", w.Path, err)
	}
	if w.env.Spec.Load().Rotate == nil {
		return nil
	}
	return w.checkLink()
}

// checkLink rejects a symbolic link: a rename would rename the link instead of the file.
func (w *Writer) checkLink() error {
	info, err := w.env.fs.Lstat(w.Path)
	switch {
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		return LinkError(w.Path)
	case err != nil && !disk.IsNotExist(err):
		return sinkio.OpError("open", w.Path, err)
	}
	return nil
}

// LinkError returns the error of a path that is a symbolic link and must not be one.
func LinkError(path string) error {
	return fmt.Errorf("open %s: a symbolic link cannot be combined with rotate or a change of compression; configure the path of the file itself", path)
}

// create opens the path for the first record. If another program has put a file there, it is
// continued.
func (w *Writer) create() error {
	if changed, err := w.linkChanged(); err != nil {
		return err
	} else if changed { // the lock and the checkpoint are elsewhere, too
		return w.markLinkLost()
	}
	if err := w.makeFolders(w.env.mode()); err != nil {
		return err
	}
	_, err := w.env.fs.Stat(w.Path)
	isNew := disk.IsNotExist(err)
	f, err := w.env.fs.OpenFile(w.Path, openFlags|os.O_CREATE, w.env.mode())
	if err != nil {
		return sinkio.OpError("open", w.Path, err)
	}
	if isNew {
		w.chmod(f, w.env.mode())
	}
	if err := w.env.lockFile(f, w.Path); err != nil {
		_ = f.Close()
		return err
	}
	g, err := w.newSegment(f, match{})
	if err != nil {
		_ = f.Close()
		return sinkio.OpError("open", w.Path, err)
	}
	w.current = g
	w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.realPath))
	return nil
}

// markLinkLost is markLost for a path that now leads to another file.
func (w *Writer) markLinkLost() error {
	return w.markLost(fmt.Errorf("open %s: the target of the symbolic link has changed", w.Path))
}

// A match says what is known of a file that is opened.
type match struct {
	ours         bool             // this writer created it, so a torn end may be truncated
	exact        bool             // its length is known
	length       int64            // if exact
	same         bool             // it is the file in the checkpoint, and not a copy
	codec        sink.Compression // "" if unknown
	inCheckpoint bool             // the durable checkpoint names it
}

// newSegment returns the segment of a locked file, up to its last whole record.
func (w *Writer) newSegment(f disk.File, known match) (*segment, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	g := &segment{path: w.Path, f: f, info: info, birthTime: f.BirthTime(), length: info.Size(), synced: -1, inCheckpoint: known.inCheckpoint}
	switch {
	case g.length == 0:
	case known.exact && known.length == 0:
		w.recordUncovered(g, known)
	case known.exact:
		g.codec = known.codec
		w.recordUncovered(g, known)
	default:
		if err := w.findEnd(g, known); err != nil {
			return nil, err
		}
	}
	if g.length == 0 || g.codec == "" {
		g.codec = w.env.compression()
	}
	if g.length > 0 {
		g.firstWrite = info.ModTime() // before anything is truncated
	}
	if disk.Preallocated(info) > minReserveGrowth/2 {
		g.reserved = g.length // reserved by a process that crashed; trim frees it
	}
	g.flushed = g.length
	return g, nil
}

// recordUncovered records how much of a file the checkpoint covers.
func (w *Writer) recordUncovered(g *segment, known match) {
	if g.length > known.length {
		g.tornTail, g.uncovered = true, g.length-known.length
		w.isCopy = !known.same
	}
	g.length = known.length
}

// findEnd finds the compression of a file and the end of its last whole record. It truncates
// a torn record only in a file that this writer created: otherwise the next record would be
// appended to it, and Kafka redelivers it. In any other file it appends a newline.
func (w *Writer) findEnd(g *segment, known match) (err error) {
	if g.codec = known.codec; g.codec == "" {
		if g.codec, err = compress.Detect(g.f, g.length, w.env.compression()); err != nil {
			return err
		}
	}
	if known.ours || g.codec != sink.Uncompressed {
		g.length, err = w.truncateTorn(g.f, g.length, g.codec)
		return err
	}
	end, err := compress.WholeEnd(g.f, g.length, g.codec)
	if err != nil || end == g.length {
		return err
	}
	if _, err := g.f.Write([]byte{'\n'}); err != nil {
		return err
	}
	g.length++
	return nil
}

// truncateTorn truncates what follows the last whole record of a file that is size bytes
// long, and returns the new length.
func (w *Writer) truncateTorn(f disk.File, size int64, c sink.Compression) (int64, error) {
	end, err := compress.WholeEnd(f, size, c)
	if err != nil || end == size {
		return end, err
	}
	w.env.Log.Warn("incomplete last record truncated", logkey.Path, w.Path, logkey.Bytes, size-end)
	return end, f.Truncate(end)
}

// chmod sets the mode of a new file independently of the umask. Some file systems reject it,
// because they have modes of their own.
func (w *Writer) chmod(f disk.File, mode fs.FileMode) {
	if err := f.Chmod(mode); err != nil {
		w.env.Log.Warn("setting the mode of a file failed", logkey.Path, w.Path, logkey.Mode, sink.Mode(mode).String(), logkey.Error, err)
	}
}

// makeFolders creates the folders above the path. Users who may read the files may enter the
// folders.
func (w *Writer) makeFolders(mode fs.FileMode) error {
	dir := filepath.Dir(w.realPath)
	missing, err := disk.MissingFolders(w.env.fs, dir)
	if err == nil && len(missing) > 0 {
		for _, d := range missing {
			w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(d))
		}
		err = w.env.fs.MkdirAll(dir, 0o700|mode|mode&0o444>>2)
	}
	if err != nil {
		return sinkio.OpError("create folder", dir, err)
	}
	return nil
}
