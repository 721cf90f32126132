package writer

import (
	"io/fs"
	"math"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A segment is a growing file.
type segment struct {
	path      string
	f         disk.File
	info      fs.FileInfo // identifies the file, even if f cannot be used any more
	birthTime int64       // as [disk.File.BirthTime]
	codec     sink.Compression
	length    int64 // the end of the accepted records
	tornTail  bool  // a failed write may have left bytes after length
	// uncovered is how many bytes followed the length in the checkpoint when the file was
	// opened. They are truncated only after a comparison with the committed offsets.
	uncovered       int64
	firstWrite      time.Time // when the first record was written, as far as known; zero if the file is empty
	inCheckpoint    bool      // a durable checkpoint names the file
	lastFlushLength int64     // length at the last flush
	reserved        int64     // disk space is allocated up to here; 0 if none is
	truncations     int64     // how often the file was truncated or opened again, which a later sync has to cover

	// The holder of flushMu guards the following fields.
	synced            int64 // length at the last successful fdatasync; -1 if there was none
	syncedTruncations int64 // truncations at the last successful fdatasync
	flushed           int64 // length at the last successful flush
}

const (
	minReserveGrowth = 8 << 20 // between two flushes; for a file that grows by more, disk space is reserved
	maxReserve       = 256 << 20
)

// reserve allocates disk space for a file that grows fast: one and a half times the growth
// since the last flush. Otherwise a sync and concurrent writes wait for each other, because
// both allocate. reserve is called before a sync, because it would wait for the sync itself.
// If the file system cannot allocate, the file is written without.
func (g *segment) reserve() {
	n := g.length - g.lastFlushLength
	g.lastFlushLength = g.length
	if n < minReserveGrowth || g.reserved == math.MaxInt64 {
		return
	}
	if n = min(n+n/2, maxReserve); g.reserved >= g.length+n {
		return
	}
	g.reserved = g.length + n
	if g.f.Reserve(g.length, n) != nil {
		g.reserved = math.MaxInt64 // do not try again
	}
}

// trim frees disk space that was reserved and not used.
func (g *segment) trim() error {
	if g.reserved == 0 {
		return nil
	}
	g.reserved = 0
	info, err := g.f.Stat()
	if err != nil {
		return sinkio.OpError("stat", g.path, err)
	}
	if disk.Preallocated(info) < minReserveGrowth/2 {
		return nil
	}
	if err := g.f.Truncate(info.Size()); err != nil { // its current length
		return sinkio.OpError("trim", g.path, err)
	}
	return nil
}

// undoWrite truncates the n bytes of a failed write. Another program may have shortened the
// file meanwhile (copytruncate). Then it must not become longer again, because that would
// fill it with zeros.
func (w *Writer) undoWrite(g *segment, n int64) {
	info, err := g.f.Stat()
	switch {
	case err != nil:
		g.tornTail = true
		return
	case info.Size() == g.length && n == 0:
		return
	}
	if left := max(0, info.Size()-n); left < g.length {
		g.length = left
		w.ledger.Version++ // the checkpoint contains more
	}
	g.tornTail = g.f.Truncate(g.length) != nil
	g.truncations++ // a crash may undo a truncation that is not synced
}

// repairTail truncates what undoWrite could not. It opens the path again if it still names
// the file, because the descriptor itself may be the cause, for example after a network file
// system was unavailable. A concurrent flush that syncs the closed descriptor fails: that costs a
// reopening, and no record.
func (w *Writer) repairTail(g *segment) error {
	if f := w.reopenSegment(g); f != nil {
		_ = g.f.Close()
		g.f = f
		g.truncations++
		if err := w.env.lockFile(f, g.path); err != nil {
			return err
		}
	}
	info, err := g.f.Stat()
	if err == nil && info.Size() > g.length {
		err = g.f.Truncate(g.length)
	}
	if err != nil {
		return sinkio.OpError("truncate the torn end of", g.path, err)
	}
	g.tornTail, g.uncovered = false, 0
	return nil
}

// reopenSegment opens the path again. It returns nil if the path does not name the segment's
// file any more, or cannot be opened.
func (w *Writer) reopenSegment(g *segment) disk.File {
	f, err := w.env.fs.OpenFile(g.path, openFlags, 0)
	if err != nil {
		return nil
	}
	if is, err := f.Stat(); err != nil || !disk.SameFile(g.info, is) {
		_ = f.Close()
		return nil
	}
	return f
}

// stateOf returns the state of a segment's file, which f opened, up to a length.
func stateOf(g *segment, f disk.File, length int64) (*checkpoint.FileState, error) {
	m, err := checkpoint.NewFileState(f, g.info, g.birthTime, length, g.codec)
	if err != nil {
		return nil, sinkio.OpError("read", g.path, err)
	}
	return m, nil
}
