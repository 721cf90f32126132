package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/retention"
	"kcagent/sink/file/writer"
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
	env    *writer.Env
	path   string // with placeholders
	encode encode.Encoder
	timer  *flushTimer
	keeper *retention.Keeper

	single *writer.Writer // the one file of a path without placeholders

	mu          sync.Mutex
	byPath      map[string]*writer.Writer
	byPartition map[sink.TopicPartition]*writer.Writer
}

// Open opens the sink that spec describes. Files are opened (and their folders
// made) with the first record of their partition, except where the path holds
// no placeholder: then at once, so that a bad path shows before any record.
func Open(ctx context.Context, spec sink.FileSpec, o sink.Options) (sink.Sink, error) {
	return openOn(ctx, spec, o, disk.OS{}, writer.ProcessPool)
}

// openOn is openFile on a file system, with a pool of descriptors.
func openOn(ctx context.Context, spec sink.FileSpec, o sink.Options, fsys disk.FS, pool *writer.Pool) (sink.Sink, error) {
	encode, err := encode.For(spec.Format)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.Path, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &fileSink{
		path:        spec.Path,
		encode:      encode,
		timer:       &flushTimer{now: o.Now},
		byPath:      make(map[string]*writer.Writer),
		byPartition: make(map[sink.TopicPartition]*writer.Writer),
	}
	s.env = writer.NewEnv(spec, o, fsys, pool)
	s.keeper = retention.New(o, fsys, spec.Path, s)
	s.env.OnDeadline, s.env.OnComplete = s.timer.set, s.keeper.AddComplete
	s.timer.onDeadline = func() {
		if o.Due != nil {
			o.Due()
		}
		s.keeper.DeadlinePassed()
	}
	if !filename.HasPlaceholders(spec.Path) {
		s.single = s.writerFor(spec.Path)
		if err := s.single.OpenNow(ctx); err != nil {
			return nil, err
		}
	}
	s.timer.reset(s.deadline())
	s.keeper.Reschedule()
	return s, nil
}

// Encode implements [Sink].
func (s *fileSink) Encode(dst []byte, r *sink.Record) []byte { return s.encode(dst, r) }

// Room implements [Sink].
func (s *fileSink) Room(tp sink.TopicPartition) int {
	r := s.Rules()
	if r == nil || r.Size == 0 || s.env.NoRename.Load() {
		return 0
	}
	w, err := s.writer(tp)
	if err != nil {
		return 0
	}
	left := w.Room()
	if left <= 0 || left > int64(r.Size) { // not open yet, or the size was changed
		left = int64(r.Size)
	}
	return int(min(left, 1<<30))
}

// Write implements [Sink]. A chunk reaches the file before it returns, except
// records that wait to be compressed or gathered.
func (s *fileSink) Write(ctx context.Context, c sink.Chunk) error {
	w, err := s.writer(c.TopicPartition)
	if err != nil {
		return err
	}
	err = w.Write(ctx, c)
	if errors.Is(err, writer.ErrNoDescriptors) && s.freeDescriptors(ctx) {
		err = w.Write(ctx, c)
	}
	return err
}

// Resume implements [Sink].
func (s *fileSink) Resume(ctx context.Context, tp sink.TopicPartition, committed sink.Commits) (sink.Ledger, error) {
	w, err := s.writer(tp)
	if err != nil {
		return sink.Ledger{}, err
	}
	l, err := w.Resume(ctx, tp, committed)
	if errors.Is(err, writer.ErrNoDescriptors) && s.freeDescriptors(ctx) {
		l, err = w.Resume(ctx, tp, committed)
	}
	if err == nil {
		s.keeper.Resumed(w.Path)
		s.timer.set(w.Deadline())
	}
	return l, err
}

// freeDescriptors makes the files of this sink safe, so that some of them can be
// closed for others.
func (s *fileSink) freeDescriptors(ctx context.Context) bool {
	err := s.Flush(ctx)
	var some *sink.FlushError
	return err == nil || errors.As(err, &some)
}

// Adopt implements [Sink].
func (s *fileSink) Adopt(ctx context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	if !s.env.ExactlyOnce {
		return nil
	}
	w, err := s.writer(tp)
	if err != nil {
		return err
	}
	err = w.Adopt(ctx, tp, id, p)
	if errors.Is(err, writer.ErrNoDescriptors) && s.freeDescriptors(ctx) {
		err = w.Adopt(ctx, tp, id, p)
	}
	return err
}

// Release implements [Sink]. A file for several partitions stays open.
func (s *fileSink) Release() error {
	s.mu.Lock()
	clear(s.byPartition)
	s.mu.Unlock()
	var errs error
	var paths []string
	for _, w := range s.writers() {
		served, err := w.Release(s.dropper(w))
		if served {
			paths = append(paths, w.Path)
		}
		errs = errors.Join(errs, err)
	}
	s.keeper.Released(paths)
	return errs
}

// Update implements [Sink]. A new mode is that of files made from now on. A new
// compression completes the file at the next record, or Flush.
func (s *fileSink) Update(spec sink.Spec) error {
	if spec.File == nil {
		return fmt.Errorf("update sink %s: the new one is of kind %q", s.path, spec.Kind())
	}
	file := *spec.File
	s.env.Spec.Store(&file)
	s.timer.onDeadline() // what was fine may be due now
	return nil
}
