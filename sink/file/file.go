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
	"kcagent/sink/sinkio"
	"kcagent/sink/template"
)

// A fileSink writes the records of a consumer to one file, or to several if the path has
// placeholders. The following rules hold for both delivery guarantees:
//
//   - Each path has one writer. It holds a lock on <path>+checkpoint while it is open, and
//     one on the data file, because links give a file several paths.
//   - A file ends after a whole record whenever nothing writes, and so do the frames of a
//     compressed file. The part that a failed write leaves is truncated at once, or, if that fails
//     too, before the next write.
//   - Only a successful fdatasync makes data durable, and the folders with the names of the
//     file are synced before the first Flush returns.
//   - After a failed fdatasync, the records of the file since the last flush are lost. The
//     file accepts no more records until it was opened again at the end of its checkpoint:
//     otherwise a later record would be committed, and the lost ones never redelivered. See
//     [sink.ErrReopen].
//   - A complete file, with its final name, is durable and never changed again.
//
// Locks are taken in the order Writer.flushMu, Writer.mu, then mu, Keeper.mu or
// Timer.mu. The last three are held for short operations in memory only.
type fileSink struct {
	sink.Unplanned
	env      *writer.Env
	path     string // with placeholders
	encoders encode.Encoders
	timer    *sinkio.Timer
	keeper   *retention.Keeper

	single *writer.Writer // the only writer, if the path has no placeholders; else nil

	template *template.Template // of a path with {time:LAYOUT}, see windows.go; else nil

	mu          sync.Mutex
	byPath      map[string]*writer.Writer
	byPartition map[sink.TopicPartition]*writer.Writer

	// With a template:
	maxWindows int
	windows    map[sink.TopicPartition]*partitionWindows
	users      map[*writer.Writer]int    // how many partitions have a window with the writer
	written    map[*writer.Writer]uint64 // number of the last write that may not be flushed
	writes     uint64
}

// Open opens a file sink. A file is opened, and its folders are created, with the first
// record of its partition. A path without placeholders is opened at once, so that an
// unusable path is reported before there is a record.
func Open(ctx context.Context, spec sink.FileSpec, o sink.Options) (sink.Sink, error) {
	return openOn(ctx, spec, o, disk.OS{}, writer.ProcessPool)
}

// openOn is [Open] on a file system, with a pool of descriptors.
func openOn(ctx context.Context, spec sink.FileSpec, o sink.Options, fsys disk.FS, pool *writer.Pool) (sink.Sink, error) {
	encoders, err := encode.For(spec.Format)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.Path, err)
	}
	tmpl, err := parseTemplate(spec)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &fileSink{
		path:        spec.Path,
		encoders:    encoders,
		timer:       &sinkio.Timer{Now: o.Now},
		template:    tmpl,
		maxWindows:  maxWindows,
		windows:     make(map[sink.TopicPartition]*partitionWindows),
		users:       make(map[*writer.Writer]int),
		written:     make(map[*writer.Writer]uint64),
		byPath:      make(map[string]*writer.Writer),
		byPartition: make(map[sink.TopicPartition]*writer.Writer),
	}
	s.env = writer.NewEnv(spec, o, fsys, pool)
	s.keeper = retention.New(o, fsys, spec.Path, s)
	s.env.OnDeadline, s.env.OnComplete = s.timer.Set, s.keeper.AddComplete
	s.timer.OnDeadline = func() {
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
	s.timer.Reset(s.deadline())
	s.keeper.Reschedule()
	return s, nil
}

// Encoder implements [sink.Sink].
func (s *fileSink) Encoder(tp sink.TopicPartition) sink.Encoder {
	e := s.encoders(tp)
	if s.template != nil {
		return windowEncoder{e, s.template}
	}
	return e
}

// Limits implements [sink.Sink].
func (s *fileSink) Limits(tp sink.TopicPartition) (sink.Limits, bool) {
	if s.template != nil {
		return sink.Limits{Before: s.windowsOf(tp).before}, true
	}
	return sink.Limits{Bytes: s.room(tp)}, true
}

// room returns how many bytes the next chunk of a partition should have; 0 means no limit.
func (s *fileSink) room(tp sink.TopicPartition) int {
	r := s.Rules()
	if r == nil || r.Size == 0 || s.env.NoRename.Load() {
		return 0
	}
	w, err := s.writer(tp)
	if err != nil {
		return 0
	}
	left := w.Room()
	if left <= 0 || left > int64(r.Size) { // the file is not open yet, or the size was changed
		left = int64(r.Size)
	}
	return int(min(left, 1<<30))
}

// Write implements [sink.Sink]. The chunk is in the file when Write returns, except for
// small chunks and for records that are to be compressed: the writer may buffer them until
// the next Flush.
func (s *fileSink) Write(ctx context.Context, c sink.Chunk) error {
	if s.template != nil {
		return s.writeWindow(ctx, c)
	}
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

// Resume implements [sink.Sink].
func (s *fileSink) Resume(ctx context.Context, tp sink.TopicPartition, committed sink.Commits) (sink.Ledger, error) {
	if s.template != nil {
		return s.resumeWindows(ctx, tp)
	}
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
		s.timer.Set(w.Deadline())
	}
	return l, err
}

// freeDescriptors flushes the files of this sink, so that some of them can be parked. It
// reports whether that may have helped.
func (s *fileSink) freeDescriptors(ctx context.Context) bool {
	err := s.Flush(ctx, false)
	var some *sink.FlushError
	return err == nil || errors.As(err, &some)
}

// Adopt implements [sink.Sink].
func (s *fileSink) Adopt(ctx context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	switch {
	case !s.env.ExactlyOnce:
		return nil
	case s.template != nil:
		s.adoptWindows(tp, p)
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

// Release implements [sink.Sink]. A file that several partitions share stays open.
func (s *fileSink) Release() error {
	s.mu.Lock()
	clear(s.byPartition)
	clear(s.windows)
	clear(s.users)
	clear(s.written)
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
	if s.template == nil { // otherwise most paths are never written again
		s.keeper.Released(paths)
	}
	return errs
}

// Update implements [sink.Sink]. A new mode applies to files that are created from now on. A
// new compression completes the file at the next record or Flush.
func (s *fileSink) Update(spec sink.Spec) error {
	if spec.File == nil {
		return fmt.Errorf("update sink %s: its kind cannot be changed to %q", s.path, spec.Kind())
	}
	file := *spec.File
	s.env.Spec.Store(&file)
	s.timer.OnDeadline() // with the new settings a file may be due
	return nil
}
