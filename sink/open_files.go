package sink

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"kcagent/limits"
)

// openFiles are the writers of all sinks that hold descriptors. When the share for
// files is used up, the writers that were not used for the longest time are closed, if
// everything in their files is safe. Their next record opens them again.
type openFiles struct {
	mu      sync.Mutex
	writers map[*writer]struct{}
	budget  *limits.Budget
	open    atomic.Int64 // how many writers there are
	// manyFrom is how many are many: from then on small chunks are gathered.
	manyFrom int64
}

// manyWriters is how many files one agent writes without gathering small chunks.
const manyWriters = 64

// many reports whether so many files are open that their syncs meet.
func (o *openFiles) many() bool { return o.open.Load() >= o.manyFrom }

// processFiles are those of this process.
var processFiles = newOpenFiles(limits.Files())

func newOpenFiles(budget *limits.Budget) *openFiles {
	return &openFiles{writers: make(map[*writer]struct{}), budget: budget, manyFrom: manyWriters}
}

// perWriter is how many descriptors a writer needs: the side file, the data file,
// and for a moment a folder to sync.
const perWriter = 2

var errDescriptors = errors.New("no file descriptors are left")

// take sets descriptors aside for w.
func (o *openFiles) take(w *writer) error {
	for !o.budget.Acquire(perWriter) {
		if !o.parkOne() {
			return fmt.Errorf("%w: %w", errDescriptors, o.budget.Err())
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writers[w] = struct{}{}
	o.open.Store(int64(len(o.writers)))
	return nil
}

// give takes descriptors back that w does not need any more.
func (o *openFiles) give(w *writer) {
	o.mu.Lock()
	_, held := o.writers[w]
	delete(o.writers, w)
	o.open.Store(int64(len(o.writers)))
	o.mu.Unlock()
	if held {
		o.budget.Release(perWriter)
	}
}

// parkOne closes the writer that was not used for the longest time, of all that can be
// closed.
func (o *openFiles) parkOne() bool {
	o.mu.Lock()
	ws := make([]*writer, 0, len(o.writers))
	for w := range o.writers {
		ws = append(ws, w)
	}
	o.mu.Unlock()
	used := make(map[*writer]int64, len(ws)) // for an order that does not change meanwhile
	for _, w := range ws {
		used[w] = w.lastUsed.Load()
	}
	slices.SortFunc(ws, func(a, b *writer) int { return cmp.Compare(used[a], used[b]) })
	return slices.ContainsFunc(ws, (*writer).tryPark)
}

// A parked is what was closed to save descriptors. Everything in it was safe.
type parked struct {
	seq     uint64   // of the checkpoint
	ledger  string   // the id in it; "" if it is none
	current *segment // without its descriptor; nil if there was none
}

// tryPark closes the writer if that loses nothing, and it is not in use.
func (w *writer) tryPark() bool {
	if !w.flushing.try() {
		return false
	}
	defer w.flushing.give()
	if !w.turn.try() {
		return false
	}
	defer w.turn.give()
	if w.side == nil || !w.idle() || len(w.folders) > 0 || w.current != nil && !w.current.named {
		return false
	}
	if g := w.current; g != nil && (g.synced != g.length || g.covers != g.cuts) && w.env.durable() {
		// A cut that is not synced may come undone, and the file may be moved before it
		// is opened again.
		if err := g.f.Datasync(); err != nil {
			_ = w.lose(fault("sync", w.path, err))
			return false
		}
		g.synced, g.covers = g.length, g.cuts
	}
	p := &parked{seq: w.side.seq, current: w.current}
	if w.last != nil {
		p.ledger = w.last.Ledger
	}
	if err := w.closeFiles(false); err != nil {
		w.env.log.Warn("closing a file that is not used failed", "path", w.path, "error", err)
	}
	w.parked = p
	return true
}

// unpark opens again what tryPark closed; f is the file that the path names now. What
// another writer did meanwhile is a loss: it is not in this ledger.
func (w *writer) unpark(f File, c *checkpoint) error {
	p := w.parked
	if c == nil && p.seq > 0 { // it was removed
		w.env.log.Warn("checkpoint was removed while it was in use; writing it again", "path", w.path)
		w.folders = append(w.folders, filepath.Dir(w.real))
		if err := w.save(w.last); err != nil {
			return err
		}
		p.seq = w.side.seq
	}
	if w.side.seq != p.seq || c != nil && c.Ledger != p.ledger {
		return w.lose(fmt.Errorf("open %s: its checkpoint was changed by another writer", w.path))
	}
	if f == nil || p.current == nil {
		w.parked = nil
		return closeIf(f)
	}
	info, err := f.Stat()
	if err != nil {
		return fault("stat", w.path, err)
	}
	// Nothing kept the inode from being used again.
	if !sameFile(info, p.current.info) || f.Born() != p.current.born {
		w.parked = nil
		w.env.log.Info("file was moved or deleted; the next record opens the path again", "path", w.path)
		return closeIf(f)
	}
	if w.env.exact {
		// What another writer has appended, and not covered by a checkpoint.
		if err := w.shorten(f, w.path, info.Size(), min(info.Size(), p.current.length)); err != nil {
			return err
		}
		p.current.cuts++
		info, err = f.Stat()
		if err != nil {
			return fault("stat", w.path, err)
		}
	}
	w.parked = nil
	w.current = p.current
	w.current.f = f
	return w.resize(w.current, info.Size())
}

func closeIf(f File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}
