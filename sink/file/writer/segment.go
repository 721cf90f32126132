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
	info      fs.FileInfo // identifies it, even when f itself is of no use any more
	birthTime int64       // as File.Born
	codec     sink.Compression
	length    int64 // the accepted records end here
	tornTail  bool  // what a failed write left may follow length
	// uncovered is how many bytes followed the length in the checkpoint when the file was
	// opened. They are not cut off before the committed offsets were looked at.
	uncovered       int64
	firstWrite      time.Time // when the first record was written, as far as known; zero if it is empty
	inCheckpoint    bool      // a durable checkpoint names it
	lastFlushLength int64     // length at the last flush
	reserved        int64     // the disk is allocated up to here; 0 if nothing is
	truncations     int64     // how often it was cut or opened again, which a later sync has to cover

	// The holder of flushing guards these.
	synced            int64 // length at the last good fdatasync; -1 if there was none
	syncedTruncations int64 // cuts at that time
	flushed           int64 // length at the last good flush
}

const (
	minReserveGrowth = 8 << 20 // between two flushes: a file that grows by that much gets room ahead
	maxReserve       = 256 << 20
)

// reserve has the disk allocated ahead of a file that grows fast, half as much
// again as came since the last flush. Else a sync and the writes beside it wait for
// each other, for both allocate. It is called before a sync, for it would wait for
// that itself. A disk that cannot is written all the same.
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

// trim gives back what was reserved and not used.
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
	if err := g.f.Truncate(info.Size()); err != nil { // the length that it has
		return sinkio.OpError("trim", g.path, err)
	}
	return nil
}

// undoWrite cuts off the n bytes of a failed write. The file may meanwhile be
// shorter than the agent left it (copytruncate): then it must not be made
// longer again, for that would fill it with zeros.
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
		w.ledger.Version++ // the checkpoint says more
	}
	g.tornTail = g.f.Truncate(g.length) != nil
	g.truncations++ // a cut that is not synced may come undone
}

// repairTail cuts off what undo could not. The path is opened again if it still
// names the file, for the descriptor itself may be what fails (a network file
// system that came back knows it no more). A flush that was about to sync the
// closed one takes that for a loss, which costs a reopening and no record.
func (w *Writer) repairTail(g *segment) error {
	if f := w.reopenSegment(g); f != nil {
		_ = g.f.Close()
		g.f = f
		g.truncations++
		if err := w.env.lock(f, g.path); err != nil {
			return err
		}
	}
	info, err := g.f.Stat()
	if err == nil && info.Size() > g.length {
		err = g.f.Truncate(g.length)
	}
	if err != nil {
		return sinkio.OpError("cut the torn end of", g.path, err)
	}
	g.tornTail, g.uncovered = false, 0
	return nil
}

// reopenSegment opens the path once more, or returns nil if it does not name the
// segment's file any more or cannot be opened.
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

// stateOf identifies a segment's file, which f opened, up to a length.
func stateOf(g *segment, f disk.File, length int64) (*checkpoint.FileState, error) {
	m, err := checkpoint.NewFileState(f, g.info, g.birthTime, length, g.codec)
	if err != nil {
		return nil, sinkio.OpError("read", g.path, err)
	}
	return m, nil
}
