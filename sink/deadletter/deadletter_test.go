package deadletter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/leader"
	"kcagent/sink"
)

var tp = sink.TopicPartition{Topic: "t"}

// A store is a sink with a ledger in memory. Its records survive a crash once a Flush has
// succeeded.
type store struct {
	sink.AnyTime
	sink.Sink
	lines, durable []string
	ledger, synced sink.Ledger
	reopen         bool         // Resume must be called
	fail           func() error // the error of the next call; nil for none
}

func newStore(id string) *store {
	l := sink.Ledger{ID: id, Position: sink.Position{Next: -1}}
	return &store{ledger: l, synced: l, fail: func() error { return nil }}
}

// crash drops what is not durable.
func (s *store) crash() {
	s.lines, s.ledger, s.reopen = append([]string(nil), s.durable...), s.synced, false
}

func (s *store) Resume(context.Context, sink.TopicPartition, sink.Commits) (sink.Ledger, error) {
	if s.reopen {
		s.crash()
	}
	return s.ledger, nil
}

func (s *store) Adopt(_ context.Context, _ sink.TopicPartition, _ string, p sink.Position) error {
	s.ledger.Position = p
	return nil
}

func (s *store) Encoder(sink.TopicPartition) sink.Encoder { return s }

func (s *store) ValueOnly() bool { return false }

func (s *store) Append(dst []byte, r *sink.Record) []byte {
	dst = fmt.Appendf(dst, "%d", r.Offset)
	for _, h := range r.Headers {
		dst = fmt.Appendf(dst, " %s=%s", h.Key, h.Value)
	}
	return append(dst, '\n')
}

func (s *store) Write(_ context.Context, c sink.Chunk) error {
	if s.reopen {
		return sink.ErrReopen
	}
	if err := s.fail(); err != nil {
		s.reopen = errors.Is(err, sink.ErrReopen)
		return err
	}
	for line := range strings.Lines(string(c.Data)) {
		s.lines = append(s.lines, s.ledger.Lineage+"@"+strings.TrimSpace(line))
	}
	s.ledger.Next, s.ledger.Epoch = c.Next, c.Epoch
	return nil
}

func (s *store) Flush(context.Context, bool) error {
	err := s.fail()
	if s.reopen {
		err = sink.ErrReopen
	}
	if err != nil {
		s.reopen = errors.Is(err, sink.ErrReopen)
		return &sink.FlushError{Failed: map[sink.TopicPartition]error{tp: err}}
	}
	s.durable, s.synced = append([]string(nil), s.lines...), s.ledger
	return nil
}

func (s *store) Release() error   { return nil }
func (s *store) Close(bool) error { return nil }

// A reader reads a partition as the agent does: it resumes at the ledger, rewinds after an
// error, and resumes again where that is required.
type reader struct {
	t                *testing.T
	records, letters *store
	sink             *Sink
	lineage          int
	next             int64
	epoch            leader.Epoch // of all records
}

func (r *reader) open() {
	r.sink = New(r.records, r.letters)
	r.resume()
}

func (r *reader) resume() {
	l, err := r.sink.Resume(r.t.Context(), tp, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if l.Next < 0 {
		r.adopt(0)
		return
	}
	r.next = l.Next
}

// adopt begins a lineage at an offset, and makes it durable before the first record. If that
// fails, the agent decides again, which leads to another lineage.
func (r *reader) adopt(at int64) {
	for {
		r.lineage++
		r.next = at
		p := sink.Position{Next: at, Lineage: fmt.Sprint(r.lineage)}
		if err := r.sink.Adopt(r.t.Context(), tp, r.records.ledger.ID, p); err != nil {
			r.t.Fatal(err)
		}
		err := r.sink.Flush(r.t.Context(), false)
		if err == nil {
			return
		}
		if _, err := r.sink.Resume(r.t.Context(), tp, nil); err != nil {
			r.t.Fatal(err)
		}
	}
}

// bad reports which records cannot be decoded.
func bad(offset int64) bool { return offset%3 != 1 }

// step reads a chunk of up to n records.
func (r *reader) step(n int64) {
	c, encoder := sink.Chunk{TopicPartition: tp, Next: r.next}, r.sink.Encoder(tp)
	for ; c.Next < r.next+n; c.Next++ {
		rec := sink.Record{Topic: tp.Topic, Offset: c.Next}
		switch {
		case !bad(c.Next):
			c.Data = encoder.Append(c.Data, &rec)
		case !r.sink.Has(tp, c.Next, r.epoch):
			c.DeadLetters = append(c.DeadLetters, r.sink.Letter(&rec, r.epoch, errors.New("bad")))
		}
	}
	switch err := r.sink.Write(r.t.Context(), c); {
	case err == nil:
		r.next = c.Next
	case errors.Is(err, sink.ErrReopen):
		r.resume()
	}
}

func (r *reader) flush() error {
	err := r.sink.Flush(r.t.Context(), false)
	if errors.Is(err, sink.ErrReopen) {
		r.resume()
	}
	return err
}

// TestEachRecordIsInOneOfTheSinksOnce goes through random histories of chunks, flushes, failed
// calls of both sinks, crashes and resets. At the end each offset of the last lineage is in
// the sink where it belongs, once.
func TestEachRecordIsInOneOfTheSinksOnce(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		r := &reader{t: t, records: newStore("records"), letters: newStore("letters")}
		r.open()
		faults := 0
		fault := func() error {
			if faults == 0 || rnd.IntN(3) > 0 {
				return nil
			}
			faults--
			if rnd.IntN(2) == 0 {
				return fmt.Errorf("sync: %w", sink.ErrReopen)
			}
			return errors.New("disk full")
		}
		r.records.fail, r.letters.fail = fault, fault
		start := int64(0)
		for range 40 {
			switch rnd.IntN(8) {
			case 0:
				_ = r.flush()
			case 1:
				faults = rnd.IntN(4)
			case 2:
				r.records.crash()
				r.letters.crash()
				r.open()
			case 3:
				if rnd.IntN(4) == 0 && r.records.ledger.Next >= 0 {
					start = rnd.Int64N(r.next + 1)
					r.adopt(start)
				}
			default:
				r.step(1 + rnd.Int64N(5))
			}
		}
		faults = 0
		for r.flush() != nil {
		}
		count := make(map[string]int)
		for _, line := range append(r.records.durable, r.letters.durable...) {
			count[line]++
		}
		for offset := start; offset < r.next; offset++ {
			line := fmt.Sprintf("%d@%d", r.lineage, offset)
			if bad(offset) {
				line += " " + ErrorHeader + "=bad"
			}
			if count[line] != 1 {
				t.Fatalf("seed %d: %s is there %d times\nrecords %v\nletters %v", seed, line, count[line], r.records.durable, r.letters.durable)
			}
		}
	}
}

// TestDeadLettersAreDurableFirst: a record behind a dead letter is not accepted before the
// dead letter is durable.
func TestDeadLettersAreDurableFirst(t *testing.T) {
	r := &reader{t: t, records: newStore("records"), letters: newStore("letters")}
	r.open()
	r.step(3) // offsets 0 and 2 are dead letters
	if len(r.letters.durable) != 2 || len(r.records.lines) != 1 {
		t.Errorf("%v are durable beside %v", r.letters.durable, r.records.lines)
	}
	broken := errors.New("no space left on device")
	r.letters.fail = func() error { return broken }
	r.step(3)
	if len(r.records.lines) != 1 || r.next != 3 {
		t.Errorf("the position is %d after a failed dead letter; records %v", r.next, r.records.lines)
	}
	r.letters.fail = func() error { return nil }
	r.step(3)
	if len(r.records.lines) != 2 || len(r.letters.durable) != 4 {
		t.Errorf("%v are durable beside %v", r.letters.durable, r.records.lines)
	}
}

// TestErrorsNameTheDeadLetters: an error of the second sink says so, also for one partition.
func TestErrorsNameTheDeadLetters(t *testing.T) {
	r := &reader{t: t, records: newStore("records"), letters: newStore("letters")}
	r.open()
	r.letters.fail = func() error { return errors.New("disk full") }
	err := r.sink.Flush(t.Context(), false)
	if each := new(sink.FlushError); !errors.As(err, &each) || each.Failed[tp].Error() != "dead-letter file: disk full" {
		t.Errorf("flush: %v", err)
	}
	err = r.sink.Write(t.Context(), sink.Chunk{TopicPartition: tp, Next: 1, DeadLetters: []sink.Chunk{{TopicPartition: tp, Next: 1, Data: []byte("x\n")}}})
	if err == nil || err.Error() != "dead-letter file: disk full" {
		t.Errorf("write: %v", err)
	}
}

// TestLettersOfAFailedChunkAreWrittenOnce: the records of a chunk cannot be written, again and
// again. A second sink without a ledger has its dead letters once, too.
func TestLettersOfAFailedChunkAreWrittenOnce(t *testing.T) {
	for _, id := range []string{"letters", ""} {
		r := &reader{t: t, records: newStore("records"), letters: newStore(id)}
		r.open()
		r.records.fail = func() error { return errors.New("disk full") }
		for range 3 {
			r.step(3) // offsets 0 and 2 are dead letters
		}
		r.records.fail = func() error { return nil }
		r.step(3)
		if len(r.letters.durable) != 2 || len(r.records.lines) != 1 || r.next != 3 {
			t.Errorf("ledger %q: %v are durable beside %v", id, r.letters.durable, r.records.lines)
		}
	}
}

// TestReplacedRecordsAreWritten: the records of a chunk cannot be written, so only the ledger
// of the dead letters is ahead. An unclean leader election replaces what it has.
func TestReplacedRecordsAreWritten(t *testing.T) {
	r := &reader{t: t, records: newStore("records"), letters: newStore("letters"), epoch: leader.NewEpoch(4)}
	r.open()
	r.records.fail = func() error { return errors.New("disk full") }
	r.step(6)
	for _, crashes := range []bool{false, true} {
		before := len(r.letters.durable)
		if crashes {
			r.records.crash()
			r.letters.crash()
			r.open()
		}
		r.step(6)
		if n := len(r.letters.durable); n != before {
			t.Errorf("%d dead letters are repeated", n-before)
		}
		r.epoch = leader.NewEpoch(r.epoch.Kafka() + 1)
		r.step(6) // 0, 2, 3 and 5 are dead letters
		if n := len(r.letters.durable); n != before+4 {
			t.Errorf("%d of 4 replaced dead letters are written", n-before)
		}
	}
}

// A stoppingStore stops the consumer at its first Flush.
type stoppingStore struct {
	*store
	stop func()
}

func (s *stoppingStore) Flush(ctx context.Context, all bool) error {
	s.stop()
	return s.store.Flush(ctx, all)
}

// A waitingStore returns the error of a context that has ended, as a sink that has to wait.
type waitingStore struct {
	*store
	blocked bool // until the context ends
}

func (s *waitingStore) Write(ctx context.Context, c sink.Chunk) error {
	if s.blocked {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.store.Write(ctx, c)
}

// TestStopBetweenTheTwoWrites: the records of the chunk are written, too. Otherwise another agent
// would repeat its dead letters after a clean stop. A blocked sink delays the stop for a moment only.
func TestStopBetweenTheTwoWrites(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			records := &waitingStore{newStore("records"), blocked}
			s := New(records, &stoppingStore{newStore("letters"), cancel})
			began := time.Now()
			err := s.Write(ctx, sink.Chunk{
				TopicPartition: tp, Next: 2, Data: []byte("1\n"),
				DeadLetters: []sink.Chunk{{TopicPartition: tp, Next: 1, Data: []byte("0\n")}},
			})
			if want := blocked; (err != nil) != want || len(records.lines) == 1 == want {
				t.Errorf("blocked %v: %v, records %v", blocked, err, records.lines)
			}
			if took := time.Since(began); took > grace {
				t.Errorf("blocked %v: the stop took %s", blocked, took)
			}
		})
	}
}
