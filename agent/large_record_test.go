package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kcagent/agent/consumer"
	"kcagent/agent/generation"
	"kcagent/limits"
	"kcagent/retry"
	"kcagent/sink"
)

// A largeSink records the chunks that it receives. It can delay or reject those with a large
// record.
type largeSink struct {
	sink.Sink
	mu     sync.Mutex
	chunks []string
	before func(context.Context) error // of a large record
}

func (s *largeSink) Write(ctx context.Context, c sink.Chunk) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if c.Large != nil && before != nil {
		if err := before(ctx); err != nil {
			return err
		}
	}
	err := s.Sink.Write(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
	case c.Large != nil:
		s.chunks = append(s.chunks, fmt.Sprintf("large %d", c.Large.Offset))
	case len(c.Data) > 0:
		s.chunks = append(s.chunks, fmt.Sprintf("%d records to %d", strings.Count(string(c.Data), "\n"), c.Next))
	}
	return err
}

func (s *largeSink) set(before func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// largeRig has a consumer whose topic has small and large records.
func largeRig(t *testing.T, before func(context.Context) error) (r *rig, s *largeSink, want []string) {
	r = newRig(t, 1)
	s = &largeSink{before: before}
	for i, size := range []int{1, 1, generation.LargeRecord, 1, generation.LargeRecord + 1, generation.LargeRecord, 1} {
		value := strings.Repeat(string(rune('a'+i)), size)
		r.produce(0, value)
		want = append(want, fmt.Sprintf("t/0@%d=%s", i, value))
	}
	r.restart(func(ctx context.Context, spec sink.Spec, o sink.Options) (out sink.Sink, err error) {
		s.Sink, err = r.memory.open(ctx, spec, o)
		return s, err
	})
	return r, s, want
}

// TestLargeRecordsAreChunksOfTheirOwn: they are written in order with the others, and
// committed like them.
func TestLargeRecordsAreChunksOfTheirOwn(t *testing.T) {
	r, s, want := largeRig(t, nil)
	r.edit("")
	r.wantRecords(want...)
	r.wantCommitted(0, int64(len(want)))
	s.mu.Lock()
	defer s.mu.Unlock()
	var large, small []string
	for _, c := range s.chunks {
		if strings.HasPrefix(c, "large") {
			large = append(large, c)
		} else {
			small = append(small, c)
		}
	}
	if !slices.Equal(large, []string{"large 2", "large 4", "large 5"}) || len(small) < 3 {
		t.Errorf("the chunks are %q", s.chunks)
	}
}

// TestLargeRecordBehindEmptyOnes: records without key, value and headers have no size, and are
// stored before the large record behind them.
func TestLargeRecordBehindEmptyOnes(t *testing.T) {
	r := newRig(t, 1)
	large := strings.Repeat("x", generation.LargeRecord)
	r.produce(0, "", "", large, "", "4")
	r.edit("")
	r.wantRecords("t/0@0=", "t/0@1=", "t/0@2="+large, "t/0@3=", "t/0@4=4")
	r.wantCommitted(0, 5)
}

// TestPauseAbortsTheWriteOfALargeRecord: a pause does not wait until a slow sink has
// written all of it. The record is read again afterwards, and stored once.
func TestPauseAbortsTheWriteOfALargeRecord(t *testing.T) {
	began := retry.NewSignal()
	r, s, want := largeRig(t, func(ctx context.Context) error {
		began.Set()
		<-ctx.Done()
		return ctx.Err()
	})
	r.edit("")
	<-began
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	r.stillOnly(want[:2]...)
	r.wantCommitted(0, 2)
	s.set(nil)
	r.edit("")
	r.wantRecords(want...)
	r.wantStatus(consumer.Running)
}

// TestLargeRecordThatFailsIsReadAgain: no later record is stored meanwhile.
func TestLargeRecordThatFailsIsReadAgain(t *testing.T) {
	r, s, want := largeRig(t, func(context.Context) error { return errors.New("no space left on device") })
	r.edit("")
	r.wantStatus(consumer.Failing)
	r.stillOnly(want[:2]...)
	s.set(func(context.Context) error { return fmt.Errorf("sync: %w", sink.ErrReopen) })
	r.stillOnly(want[:2]...)
	s.set(nil)
	r.wantRecords(want...)
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, int64(len(want)))
}

// TestChunksFitTheMemoryLimit: chunks are shorter if the memory limit does not allow full
// ones for all consumers.
func TestChunksFitTheMemoryLimit(t *testing.T) {
	limits.Records.SetLimit(1 << 20) // 64 KiB for each buffer of a consumer with two partitions
	t.Cleanup(func() { limits.Records.SetLimit(0) })
	r := newRig(t, 2)
	var longest atomic.Int64
	r.restart(func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
		s, err := r.memory.open(ctx, spec, o)
		return &measuringSink{s, &longest}, err
	})
	values := make([]string, 100)
	for i := range values {
		values[i] = strings.Repeat("x", 2<<10)
	}
	r.produce(0, values...)
	r.edit("")
	r.wantCommitted(0, int64(len(values)))
	if n := longest.Load(); n > 64<<10+3<<10 {
		t.Errorf("a chunk has %d bytes", n)
	}
}

type measuringSink struct {
	sink.Sink
	longest *atomic.Int64
}

func (s *measuringSink) Write(ctx context.Context, c sink.Chunk) error {
	s.longest.Store(max(s.longest.Load(), int64(len(c.Data))))
	return s.Sink.Write(ctx, c)
}
