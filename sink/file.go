package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A fileSink writes a consumer's records to one file, or to several where the
// path has placeholders.
//
// What it promises rests on these rules, and on the package's for exactly once:
//
//   - One writer a path: a lock on <path>+checkpoint is held as long as the writer is
//     open, and one on the data file itself as long as that is, for links give one
//     file several paths.
//   - A file ends after a whole record whenever nothing writes, and so do the
//     frames of a compressed one. A failed write is cut off at once, or, if that
//     fails too, before the next one.
//   - Nothing is taken for safe that a good fdatasync has not covered, and the
//     folders that name the file are synced before the first Flush returns.
//   - After a failed fdatasync the file is lost: it accepts nothing more, for a
//     later record must not be committed past the hole, until it was opened again
//     where its checkpoint ends; see [ErrReopen].
//   - A complete file, one with its final name, is safe and never changed again.
//
// Locks are taken in the order writer.flushing, writer.turn, keeper.mu; mu is held
// for map operations only.
type fileSink struct {
	log      *slog.Logger
	fs       FS
	now      func() time.Time
	path     string // with placeholders
	consumer string
	group    string
	exact    bool // exactly once
	format   Format
	encode   encoder
	spec     atomic.Pointer[FileSpec] // of which Update changes what may change
	alarm    *alarm
	keeper   *keeper
	files    *openFiles
	lockless sync.Once // the warning that the file system has no locks
	// renameless says that the file system has no renames, so files are not completed.
	renameless atomic.Bool

	only *writer // the one file of a path without placeholders

	mu          sync.Mutex
	byPath      map[string]*writer
	byPartition map[TopicPartition]*writer
}

// defaultMode is that of a spec that leaves it open.
const defaultMode Mode = 0o640

func openFile(ctx context.Context, spec FileSpec, o Options) (Sink, error) {
	encode, err := spec.Format.encoder()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.Path, err)
	}
	s := &fileSink{
		log: o.Log, fs: o.FS, now: o.Now,
		path: spec.Path, consumer: o.Consumer, group: o.Group,
		exact:       spec.Delivery == ExactlyOnce,
		format:      spec.Format,
		encode:      encode,
		alarm:       &alarm{now: o.Now},
		files:       o.files,
		byPath:      make(map[string]*writer),
		byPartition: make(map[TopicPartition]*writer),
	}
	s.spec.Store(&spec)
	s.keeper = newKeeper(s)
	s.alarm.ring = func() {
		if o.Due != nil {
			o.Due()
		}
		s.keeper.rang()
	}
	if !perPartition(spec.Path) {
		s.only = s.writerOf(spec.Path)
		if err := s.only.alone(ctx, s.only.openAtOnce); err != nil {
			return nil, errors.Join(err, s.only.close())
		}
	}
	s.alarm.reset(s.deadline())
	s.keeper.wake()
	return s, nil
}

// mode is that of files made from now on.
func (s *fileSink) mode() fs.FileMode {
	if m := s.spec.Load().Mode; m != 0 {
		return fs.FileMode(m)
	}
	return fs.FileMode(defaultMode)
}

func (s *fileSink) durable() bool { return s.spec.Load().Durability != None }

func (s *fileSink) delivery() Delivery {
	if s.exact {
		return ExactlyOnce
	}
	return AtLeastOnce
}

// compress makes a large chunk a frame, beside the other chunks; nil if it
// is to be written as it is, or with others.
func (s *fileSink) compress(data []byte) (frame, Compression) {
	c := compression(s.spec.Load())
	if c == Uncompressed || len(data) < bigChunk {
		return frame{}, c
	}
	return newFrame(c, data), c
}

// Encode implements [Sink].
func (s *fileSink) Encode(dst []byte, r *Record) []byte { return s.encode(dst, r) }

// Room implements [Sink].
func (s *fileSink) Room(tp TopicPartition) int {
	r := s.spec.Load().Rotate
	if r == nil || r.Size == 0 || s.renameless.Load() {
		return 0
	}
	w, err := s.writer(tp)
	if err != nil {
		return 0
	}
	left := w.left.Load()
	if left <= 0 || left > int64(r.Size) { // not open yet, or the size was changed
		left = int64(r.Size)
	}
	return int(min(left, 1<<30))
}

// Write implements [Sink]. A chunk reaches the file before it returns, except
// records that wait to be compressed or gathered.
func (s *fileSink) Write(ctx context.Context, c Chunk) error {
	w, err := s.writer(c.TopicPartition)
	if err != nil {
		return err
	}
	err = w.write(ctx, c)
	if errors.Is(err, errDescriptors) && s.freeDescriptors(ctx) {
		err = w.write(ctx, c)
	}
	return err
}

// Resume implements [Sink].
func (s *fileSink) Resume(ctx context.Context, tp TopicPartition, committed Commits) (Ledger, error) {
	w, err := s.writer(tp)
	if err != nil {
		return Ledger{}, err
	}
	var l Ledger
	resume := func() (err error) { l, err = w.resume(tp, committed); return err }
	err = w.alone(ctx, resume)
	if errors.Is(err, errDescriptors) && s.freeDescriptors(ctx) {
		err = w.alone(ctx, resume)
	}
	if err == nil {
		s.keeper.resumed(w.path)
		s.alarm.set(w.deadlineSafe())
	}
	return l, err
}

// freeDescriptors makes the files of this sink safe, so that some of them can be
// closed for others.
func (s *fileSink) freeDescriptors(ctx context.Context) bool {
	err := s.Flush(ctx)
	var some *FlushError
	return err == nil || errors.As(err, &some)
}

// Adopt implements [Sink].
func (s *fileSink) Adopt(ctx context.Context, tp TopicPartition, id string, p Position) error {
	if !s.exact {
		return nil
	}
	w, err := s.writer(tp)
	if err != nil {
		return err
	}
	adopt := func() error {
		if err := w.usable(tp); err != nil {
			return err
		}
		// It may have been closed since Resume, and what is closed is not flushed.
		if err := w.open(); err != nil {
			return err
		}
		w.adopt(tp, id, p)
		return nil
	}
	err = w.alone(ctx, adopt)
	if errors.Is(err, errDescriptors) && s.freeDescriptors(ctx) {
		err = w.alone(ctx, adopt)
	}
	return err
}

// Release implements [Sink]. A file for several partitions stays open.
func (s *fileSink) Release() error {
	s.mu.Lock()
	clear(s.byPartition)
	s.mu.Unlock()
	var err error
	var paths []string
	for _, w := range s.writers() {
		err = errors.Join(err, w.alone(context.Background(), func() error {
			served := len(w.seen) > 0
			clear(w.seen)
			if served {
				paths = append(paths, w.path)
			}
			if s.only != nil {
				return nil
			}
			defer s.forget(w)
			return w.close()
		}))
	}
	s.keeper.released(paths)
	return err
}

// writer finds or makes the writer of a partition's file; it opens nothing.
func (s *fileSink) writer(tp TopicPartition) (*writer, error) {
	if s.only != nil {
		return s.only, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.byPartition[tp]; w != nil {
		return w, nil
	}
	path, err := expand(s.path, tp)
	if err != nil {
		return nil, err
	}
	w := s.writerLocked(path)
	s.byPartition[tp] = w
	return w, nil
}

// writerOf finds or makes the writer of a path.
func (s *fileSink) writerOf(path string) *writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writerLocked(path)
}

// writerLocked is writerOf. The caller holds s.mu.
func (s *fileSink) writerLocked(path string) *writer {
	w := s.byPath[path]
	if w == nil {
		w = newWriter(s, path)
		s.byPath[path] = w
	}
	return w
}

// forget drops a writer that is closed and serves no partition: one that is not
// listed would not be flushed.
func (s *fileSink) forget(w *writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.byPartition {
		if of == w {
			return
		}
	}
	if s.byPath[w.path] == w {
		delete(s.byPath, w.path)
	}
}

// knows reports whether the writer is listed.
func (s *fileSink) knows(w *writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[w.path] == w
}

// serves reports whether a partition of the path is assigned.
func (s *fileSink) serves(path string) bool {
	if s.only != nil {
		return s.only.path == path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path] != nil
}

// writers returns all there are now.
func (s *fileSink) writers() []*writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	ws := make([]*writer, 0, len(s.byPath))
	for _, w := range s.byPath {
		ws = append(ws, w)
	}
	return ws
}

// deadline is when the clock completes the next file; zero if never.
func (s *fileSink) deadline() (next time.Time) {
	if r := s.spec.Load().Rotate; r == nil || r.Every == 0 {
		return next
	}
	for _, w := range s.writers() {
		if at := w.deadlineSafe(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// deadlineSafe is deadline. The caller does not hold the turn.
func (w *writer) deadlineSafe() time.Time {
	_ = w.turn.take(context.Background())
	defer w.turn.give()
	return w.deadline()
}

// Update implements [Sink]. A new mode is that of files made from now on. A new
// compression completes the file at the next record, or Flush.
func (s *fileSink) Update(spec Spec) error {
	if spec.File == nil {
		return fmt.Errorf("update sink %s: the new one is of kind %q", s.path, spec.Kind())
	}
	file := *spec.File
	s.spec.Store(&file)
	s.alarm.ring() // what was fine may be due now
	return nil
}
