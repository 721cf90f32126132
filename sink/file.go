package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
)

// A fileSink writes a consumer's records to one file, or to several where the
// path has placeholders.
//
// What it promises rests on these rules, and on the package's for exactly once:
//
//   - One writer a file: a lock on <path>.lock is held as long as the sink is
//     open, and one on the file itself as long as that is.
//   - A file ends after a whole record whenever nobody writes, and so do the
//     frames of a compressed one. A failed write is cut off at once, or, if that
//     fails too, before the next one.
//   - Without a checkpoint, what a crash left after the last newline, frame or
//     member is cut off when the file is opened. No offset was committed for it,
//     for it was never flushed, so Kafka brings that record again.
//   - Nothing is taken for safe that a good fdatasync has not covered, and the
//     folders that name the file are synced before the first Flush returns.
//   - After a failed fdatasync the sink is lost: it accepts nothing more, for a
//     later record must not be committed past the hole, and Close cuts every
//     file back to where the last good Flush left it.
//   - A complete file, one with its final name, is safe and never touched again.
//
// Locks are taken in the order flushing, writer.turn; mu is held for map
// operations only.
type fileSink struct {
	log    *slog.Logger
	fs     FS
	path   string // with placeholders
	group  string
	exact  bool // exactly once
	encode encoder
	spec   atomic.Pointer[FileSpec] // of which Update changes what may change
	alarm  *alarm

	only *writer // the one file of a path without placeholders

	mu          sync.Mutex
	byPath      map[string]*writer
	byPartition map[TopicPartition]*writer

	flushing turn // one Flush at a time
	lost     atomic.Pointer[error]
}

// defaultMode is that of a spec that leaves it open.
const defaultMode Mode = 0o640

func openFile(ctx context.Context, spec FileSpec, o Options) (Sink, error) {
	encode, err := spec.Format.encoder()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.Path, err)
	}
	s := &fileSink{
		log:         o.Log,
		fs:          o.FS,
		path:        spec.Path,
		group:       o.Group,
		exact:       spec.Delivery == ExactlyOnce,
		encode:      encode,
		alarm:       &alarm{ring: o.Due},
		byPath:      make(map[string]*writer),
		byPartition: make(map[TopicPartition]*writer),
		flushing:    newTurn(),
	}
	s.spec.Store(&spec)
	if perPartition(spec.Path) {
		return s, nil
	}
	s.only = newWriter(s, spec.Path)
	s.byPath[spec.Path] = s.only
	if err := s.alone(ctx, s.only, s.only.open); err != nil {
		s.alarm.stop()
		return nil, errors.Join(err, s.only.close(false))
	}
	return s, nil
}

// mode is that of files made from now on.
func (s *fileSink) mode() fs.FileMode {
	if m := s.spec.Load().Mode; m != 0 {
		return fs.FileMode(m)
	}
	return fs.FileMode(defaultMode)
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

// Write implements [Sink]. A chunk reaches the file before it returns, but for
// what waits to be compressed.
func (s *fileSink) Write(ctx context.Context, c Chunk) error {
	if len(c.Data) == 0 && !s.exact {
		return nil
	}
	w, err := s.writer(c.TopicPartition)
	if err != nil {
		return err
	}
	return w.write(ctx, c)
}

// Resume implements [Resumer].
func (s *fileSink) Resume(ctx context.Context, tp TopicPartition, topic Identity) (Place, error) {
	if !s.exact {
		return Place{Next: -1}, nil
	}
	w, err := s.writer(tp)
	if err != nil {
		return Place{}, err
	}
	var place Place
	err = s.alone(ctx, w, func() error {
		if !w.loaded {
			// Without a checkpoint the first record may open the file.
			if _, err := s.fs.Stat(w.path + checkpointSuffix); !isNotExist(err) {
				if err := w.open(); err != nil {
					return err
				}
			}
		}
		place = w.place(tp, topic)
		return nil
	})
	return place, err
}

// Release implements [Resumer]. A file for several partitions stays open.
func (s *fileSink) Release() error {
	if s.only != nil || s.loss() != nil { // Close cuts what was lost
		return nil
	}
	var err error
	for _, w := range s.writers() {
		err = errors.Join(err, w.close(false))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byPath)
	clear(s.byPartition)
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
	w := s.byPath[path]
	if w == nil {
		w = newWriter(s, path)
		s.byPath[path] = w
	}
	s.byPartition[tp] = w
	return w, nil
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

// Update implements [Sink]. A new mode is that of files made from now on. A new
// compression ends the file at the next record, or Flush.
func (s *fileSink) Update(spec Spec) error {
	if spec.File == nil {
		return fmt.Errorf("update sink %s: the new one is of kind %q", s.path, spec.Kind())
	}
	file := *spec.File
	s.spec.Store(&file)
	if s.alarm.ring != nil {
		s.alarm.ring() // what was fine may be due now
	}
	return nil
}

// loss is the error of the Flush that lost records, if there was one.
func (s *fileSink) loss() error {
	if err := s.lost.Load(); err != nil {
		return *err
	}
	return nil
}

// Close implements [Sink]. The lock files stay: to remove one that somebody
// else has just opened would let two in.
func (s *fileSink) Close() error {
	s.alarm.stop()
	var err error
	if s.loss() == nil && s.dirty() { // of a loss the owner knows already
		err = s.Flush(context.Background())
	}
	// A checkpoint that could not be made safe may be there all the same, and say
	// more than the last good Flush: the next start cuts where it says.
	cut := s.loss() != nil && !s.exact
	for _, w := range s.writers() {
		err = errors.Join(err, w.close(cut))
	}
	return err
}
