// Package deadletter adds a second sink to that of a consumer, the dead-letter file, for the
// records that cannot be decoded.
//
// # Why the dead-letter file holds each dead letter once
//
// A chunk carries its dead letters. [Sink.Write] writes and flushes them before it writes the
// chunk to the consumer's own sink, so they are durable before the position moves past them:
// a crash loses none. If the chunk is read again, because of a crash or because the second
// write failed, the ledger of the dead-letter file says which of them it holds already;
// [Sink.Has] reports it. That ledger is compared only while it has the lineage of the
// consumer's own ledger. After a reset by an operator, or in a recreated topic, offsets are
// read again on purpose, and their dead letters are written again, too. An unclean leader
// election can replace records that only the ledger of the dead-letter file has, which changes no
// lineage. The replaced ones have a later leader epoch than that ledger, and are written.
//
// A sink without a ledger may repeat dead letters after a crash, as it repeats records. While
// the second write fails, the sink keeps in memory which dead letters the file holds.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kcagent/leader"
	"kcagent/sink"
)

// A Sink writes records to the sink of a consumer, and dead letters to the dead-letter file. It
// is safe for concurrent use, as both sinks are.
type Sink struct {
	sink.Sink // of the consumer
	letters   sink.Sink

	mu      sync.Mutex
	entries map[sink.TopicPartition]entry // of partitions that have resumed
}

// An entry says which dead letters of a partition the dead-letter file holds.
type entry struct {
	sink.Ledger       // durable; Next is -1 if the sink keeps no ledger
	accepted    point // that of the ledger, or further while the chunk of the dead letters is not written
}

// A point is the offset after a dead letter, and the leader epoch of the dead letter.
type point struct {
	next  int64
	epoch leader.Epoch
}

func pointOf(p sink.Position) point { return point{p.Next, p.Epoch} }

// covers reports whether a record is before the point. Leader epochs only grow along a log, so
// a record of a later epoch has replaced the one that was there.
func (p point) covers(offset int64, epoch leader.Epoch) bool {
	return offset < p.next && (!epoch.Known() || !p.epoch.Known() || epoch.Kafka() <= p.epoch.Kafka())
}

// New returns a sink of both. Its Close closes both.
func New(records, letters sink.Sink) *Sink {
	return &Sink{Sink: records, letters: letters, entries: make(map[sink.TopicPartition]entry)}
}

// Has reports whether the dead letter with this offset and leader epoch is durable already.
func (s *Sink) Has(tp sink.TopicPartition, offset int64, epoch leader.Epoch) bool {
	return pointOf(s.entry(tp).Position).covers(offset, epoch)
}

func (s *Sink) setEntry(tp sink.TopicPartition, e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[tp] = e
}

func (s *Sink) entry(tp sink.TopicPartition) entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[tp]; ok {
		return e
	}
	return entry{sink.Ledger{Position: sink.Position{Next: -1}}, point{next: -1}}
}

// ErrorHeader is the key of the header that says why a record is a dead letter. It comes after
// the record's own headers.
const ErrorHeader = "kcagent.error"

// largeLetter is the size in bytes from which a dead letter is not copied. It must not be less
// than the size from which the caller writes a record at once (generation.LargeRecord):
// otherwise the bytes of the dead letter could change before they are written.
const largeLetter = 256 << 10

// Letter returns the dead letter of a record, with its bytes as Kafka has them, and why it
// cannot be decoded as a header. If the record is large, the chunk uses its bytes.
func (s *Sink) Letter(r *sink.Record, epoch leader.Epoch, cause error) sink.Chunk {
	letter := *r
	letter.Headers = append(slices.Clip(r.Headers), sink.Header{Key: []byte(ErrorHeader), Value: []byte(cause.Error())})
	c := sink.Chunk{TopicPartition: sink.TopicPartition{Topic: r.Topic, Partition: r.Partition}, Next: r.Offset + 1, Epoch: epoch, Count: 1, Time: r.Time}
	if len(r.Key)+len(r.Value) >= largeLetter {
		c.Large = &letter
	} else {
		c.Data = s.letters.Encoder(c.TopicPartition).Append(nil, &letter)
	}
	return c
}

// Resume implements [sink.Sink]. The ledger is that of the consumer's own sink.
func (s *Sink) Resume(ctx context.Context, tp sink.TopicPartition, committed sink.Commits) (sink.Ledger, error) {
	own, err := s.Sink.Resume(ctx, tp, committed)
	if err != nil {
		return own, err
	}
	// Nothing is committed under the ledger of the dead-letter file.
	l, err := s.letters.Resume(ctx, tp, nil)
	if err != nil {
		return sink.Ledger{}, Explain(err)
	}
	s.setEntry(tp, entry{l, pointOf(l.Position)})
	if own.Next >= 0 {
		err = s.follow(ctx, tp, own.Position)
	}
	return own, err
}

// Adopt implements [sink.Sink].
func (s *Sink) Adopt(ctx context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	if err := s.Sink.Adopt(ctx, tp, id, p); err != nil {
		return err
	}
	return s.follow(ctx, tp, p)
}

// follow sets the lineage of the dead-letter file's ledger to that of a position of the consumer's
// own sink. Within one lineage it keeps its entry, which may be ahead of that position.
func (s *Sink) follow(ctx context.Context, tp sink.TopicPartition, p sink.Position) error {
	e := s.entry(tp)
	if e.Next >= 0 && e.Lineage == p.Lineage {
		return nil
	}
	if err := s.letters.Adopt(ctx, tp, e.ID, p); err != nil {
		return Explain(err)
	}
	if e.ID != "" {
		e.Position, e.accepted = p, pointOf(p)
		s.setEntry(tp, e)
	}
	return nil
}

// Write implements [sink.Sink]. It writes and flushes the dead letters of the chunk first.
func (s *Sink) Write(ctx context.Context, c sink.Chunk) error {
	if len(c.DeadLetters) == 0 {
		return s.Sink.Write(ctx, c)
	}
	ctx, stop := finish(ctx)
	defer stop()
	if err := s.writeLetters(ctx, c.TopicPartition, c.DeadLetters); err != nil {
		return Explain(err)
	}
	if err := s.Sink.Write(ctx, c); err != nil {
		return err
	}
	if e := s.entry(c.TopicPartition); e.ID == "" { // an offset that is read again is written again
		e.accepted = point{next: -1}
		s.setEntry(c.TopicPartition, e)
	}
	return nil
}

// grace is how long a Write with dead letters may continue after its context has ended. It is
// much shorter than a consumer may take to stop.
const grace = 3 * time.Second

// finish returns a context that ends some time after ctx. A clean stop between the two writes of
// a chunk would leave dead letters of records that are not committed. Another agent, or another
// dead-letter file, would then get them again. A blocked sink still cannot delay a stop for long.
func finish(ctx context.Context) (later context.Context, stop func()) {
	later, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	release := context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
	})
	return later, func() {
		release()
		cancel(nil)
	}
}

func (s *Sink) writeLetters(ctx context.Context, tp sink.TopicPartition, letters []sink.Chunk) error {
	e := s.entry(tp)
	for _, c := range letters {
		if e.accepted.covers(c.Next-1, c.Epoch) { // an earlier attempt wrote it
			continue
		}
		if err := s.letters.Write(ctx, c); err != nil {
			return err
		}
		e.accepted = point{c.Next, c.Epoch}
		s.setEntry(tp, e)
	}
	if err := sink.PartitionError(s.letters.Flush(ctx, false), tp); err != nil {
		return err
	}
	if e.ID != "" {
		e.Next, e.Epoch = e.accepted.next, e.accepted.epoch
		s.setEntry(tp, e)
	}
	return nil
}

// Flush implements [sink.Sink]. Dead letters are durable already, but their ledger may have
// a new lineage, or their file may be complete.
func (s *Sink) Flush(ctx context.Context, all bool) error {
	err := s.Sink.Flush(ctx, all)
	if own, ok := errors.AsType[*sink.FlushError](err); err != nil && !ok {
		return err
	} else if e := s.letters.Flush(ctx, all); e != nil {
		return merge(own, e)
	}
	return err
}

// merge adds an error of the dead-letter file to those of the records; own may be nil. An error
// that is about all partitions stays one.
func merge(own *sink.FlushError, letters error) error {
	each, ok := errors.AsType[*sink.FlushError](letters)
	if !ok {
		return Explain(letters)
	}
	failed := make(map[sink.TopicPartition]error)
	for tp, err := range each.Failed {
		failed[tp] = Explain(err)
	}
	if own != nil {
		for tp, err := range own.Failed {
			failed[tp] = err
		}
	}
	return &sink.FlushError{Failed: failed}
}

// Release implements [sink.Sink].
func (s *Sink) Release() error {
	s.mu.Lock()
	clear(s.entries)
	s.mu.Unlock()
	return errors.Join(s.Sink.Release(), Explain(s.letters.Release()))
}

// Close implements [sink.Sink].
func (s *Sink) Close(end bool) error {
	return errors.Join(s.Sink.Close(end), Explain(s.letters.Close(end)))
}

// Explain adds to an error that it concerns the dead-letter file. It returns nil for nil.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dead-letter file: %w", err)
}
