package writer

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"kcagent/limits"
	"kcagent/logkey"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A Pool holds the writers of all sinks that have open files. When the limit of descriptors
// is reached, it parks the writers that were not used for the longest time: it closes their
// files, if everything in them is flushed. The next record of a parked writer opens them
// again.
type Pool struct {
	mu          sync.Mutex
	writers     map[*Writer]struct{}
	budget      *limits.Budget
	openWriters atomic.Int64 // number of writers
	// BufferFrom is the number of open files from which on small chunks are buffered.
	BufferFrom int64
}

// manyWriters is how many files one agent writes without buffering small chunks.
const manyWriters = 64

// manyOpen reports whether so many files are open that the sync of one includes data of
// others.
func (p *Pool) manyOpen() bool { return p.openWriters.Load() >= p.BufferFrom }

// ProcessPool is the pool of this process.
var ProcessPool = NewPool(limits.Files())

// NewPool returns a pool whose writers share the descriptors of a budget.
func NewPool(budget *limits.Budget) *Pool {
	return &Pool{writers: make(map[*Writer]struct{}), budget: budget, BufferFrom: manyWriters}
}

// descriptorsPerWriter is how many descriptors a writer needs: the checkpoint file, the data
// file, and for a moment a folder to sync.
const descriptorsPerWriter = 2

// ErrNoDescriptors says that the limit of descriptors is reached, and no writer can be parked.
var ErrNoDescriptors = errors.New("no file descriptors left")

// acquire reserves descriptors for w.
func (p *Pool) acquire(w *Writer) error {
	for !p.budget.Acquire(descriptorsPerWriter) {
		if !p.ParkOne() {
			return fmt.Errorf("%w: %w", ErrNoDescriptors, p.budget.Err())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writers[w] = struct{}{}
	p.openWriters.Store(int64(len(p.writers)))
	return nil
}

// release frees the descriptors that were reserved for w.
func (p *Pool) release(w *Writer) {
	p.mu.Lock()
	_, held := p.writers[w]
	delete(p.writers, w)
	p.openWriters.Store(int64(len(p.writers)))
	p.mu.Unlock()
	if held {
		p.budget.Release(descriptorsPerWriter)
	}
}

// ParkOne parks the writer that was not used for the longest time, of all that can be
// parked.
func (p *Pool) ParkOne() bool {
	p.mu.Lock()
	ws := make([]*Writer, 0, len(p.writers))
	for w := range p.writers {
		ws = append(ws, w)
	}
	p.mu.Unlock()
	used := make(map[*Writer]int64, len(ws)) // a copy, because the sort needs an order that does not change
	for _, w := range ws {
		used[w] = w.lastUsed.Load()
	}
	slices.SortFunc(ws, func(a, b *Writer) int { return cmp.Compare(used[a], used[b]) })
	return slices.ContainsFunc(ws, (*Writer).TryPark)
}

// A parkedState is what a parked writer needs to open its files again. Everything in them
// was flushed.
type parkedState struct {
	seq     uint64   // sequence number of the checkpoint
	ledger  string   // ID of the ledger in the checkpoint; "" if there is none
	current *segment // without its descriptor; nil if there was none
}

// TryPark closes the writer's files if that loses nothing and the writer is not in use.
func (w *Writer) TryPark() bool {
	if !w.flushMu.TryLock() {
		return false
	}
	defer w.flushMu.Unlock()
	if !w.mu.TryLock() {
		return false
	}
	defer w.mu.Unlock()
	if w.store == nil || !w.isFlushed() || len(w.unsyncedFolders) > 0 || w.current != nil && !w.current.inCheckpoint {
		return false
	}
	if g := w.current; g != nil && (g.synced != g.length || g.syncedTruncations != g.truncations) && w.env.durable() {
		// A crash may undo a truncation that is not synced, and another program may move the
		// file before it is opened again.
		if err := g.f.Datasync(); err != nil {
			_ = w.markLost(sinkio.OpError("sync", w.Path, err))
			return false
		}
		g.synced, g.syncedTruncations = g.length, g.truncations
	}
	p := &parkedState{seq: w.store.Seq, current: w.current}
	if w.lastCheckpoint != nil {
		p.ledger = w.lastCheckpoint.Ledger
	}
	if err := w.closeFiles(false); err != nil {
		w.env.Log.Warn("closing an idle file failed", logkey.Path, w.Path, logkey.Error, err)
	}
	w.parked = p
	return true
}

// unpark opens what TryPark has closed. f is the file that the path names now. If another
// writer has written meanwhile, the records are lost: this ledger does not contain them.
func (w *Writer) unpark(f disk.File, c *checkpoint.Checkpoint) error {
	p := w.parked
	if c == nil && p.seq > 0 { // the checkpoint was removed
		w.env.Log.Warn("checkpoint was removed while it was in use; writing it again", logkey.Path, w.Path)
		w.unsyncedFolders = append(w.unsyncedFolders, filepath.Dir(w.realPath))
		if err := w.writeCheckpoint(w.lastCheckpoint); err != nil {
			return err
		}
		p.seq = w.store.Seq
	}
	if w.store.Seq != p.seq || c != nil && c.Ledger != p.ledger {
		return w.markLost(fmt.Errorf("open %s: another writer changed the checkpoint", w.Path))
	}
	if f == nil || p.current == nil {
		w.parked = nil
		return closeIf(f)
	}
	info, err := f.Stat()
	if err != nil {
		return sinkio.OpError("stat", w.Path, err)
	}
	// While the file was closed, its inode number may have been reused.
	if !disk.SameFile(info, p.current.info) || f.BirthTime() != p.current.birthTime {
		w.parked = nil
		w.env.Log.Info("file was moved or deleted; the next record opens the path again", logkey.Path, w.Path)
		return closeIf(f)
	}
	if w.env.ExactlyOnce {
		// Another writer may have appended data that no checkpoint covers.
		if err := w.truncateTo(f, w.Path, info.Size(), min(info.Size(), p.current.length)); err != nil {
			return err
		}
		p.current.truncations++
		info, err = f.Stat()
		if err != nil {
			return sinkio.OpError("stat", w.Path, err)
		}
	}
	w.parked = nil
	w.current = p.current
	w.current.f = f
	return w.acceptLength(w.current, info.Size())
}

func closeIf(f disk.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}
