package agent

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kcagent/sink"
)

// useEightCores lets the process use eight cores until the test ends.
func useEightCores(t *testing.T) {
	was := runtime.GOMAXPROCS(8)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// TestEightPartitionsUseEightCores: eight partitions of a consumer encode at the same time, and write
// at the same time. Each has its records once and in order.
func TestEightPartitionsUseEightCores(t *testing.T) {
	const partitions, each = 8, 300
	for _, stage := range []string{"encode", "write"} {
		t.Run(stage, func(t *testing.T) {
			useEightCores(t)
			r := newRig(t, partitions)
			for p := range int32(partitions) {
				values := make([]string, each)
				for i := range values {
					values[i] = fmt.Sprint(i, strings.Repeat("x", 1<<10)) // several chunks
				}
				r.produce(p, values...)
			}
			b := newBarrier(t, partitions)
			r.restart(func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
				s, err := r.memory.open(ctx, spec, o)
				return &barrierSink{Sink: s, stage: stage, b: b}, err
			})
			r.edit("")
			for p := range int32(partitions) {
				r.wantCommitted(p, each)
			}
			next := make(map[string]int)
			for _, text := range r.memory.all() {
				partition, _, _ := strings.Cut(text, "@")
				if want := fmt.Sprintf("%s@%d=%dx", partition, next[partition], next[partition]); !strings.HasPrefix(text, want) {
					t.Fatalf("%.40s follows instead of %s", text, want)
				}
				next[partition]++
			}
			for p := range partitions {
				if n := next[fmt.Sprintf("t/%d", p)]; n != each {
					t.Errorf("partition %d has %d records", p, n)
				}
			}
			if n := b.most.Load(); n > partitions {
				t.Errorf("%d calls at the same time", n)
			}
		})
	}
}

// TestOneConsumerHasTwoChunksInProgressOnTwoCores, whatever the number of its partitions.
func TestOneConsumerHasTwoChunksInProgressOnTwoCores(t *testing.T) {
	was := runtime.GOMAXPROCS(2)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
	r := newRig(t, 8)
	for p := range int32(8) {
		r.produce(p, "a", "b")
	}
	b := newBarrier(t, 2)
	r.restart(func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
		s, err := r.memory.open(ctx, spec, o)
		return &barrierSink{Sink: s, stage: "write", b: b}, err
	})
	r.edit("")
	for p := range int32(8) {
		r.wantCommitted(p, 2)
	}
	if n := b.most.Load(); n != 2 {
		t.Errorf("%d chunks were written at the same time", n)
	}
}

// A barrier lets calls of enter return once there are want at the same time, for the first time.
type barrier struct {
	*testing.T
	want         int32
	inside, most atomic.Int32
	once         sync.Once
	all          chan struct{}
}

func newBarrier(t *testing.T, want int32) *barrier {
	return &barrier{T: t, want: want, all: make(chan struct{})}
}

func (b *barrier) enter() {
	n := b.inside.Add(1)
	for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
	}
	if n == b.want {
		b.once.Do(func() { close(b.all) })
	}
	select {
	case <-b.all:
	case <-time.After(20 * time.Second):
		b.Errorf("%d calls at the same time, want %d", b.inside.Load(), b.want)
		b.once.Do(func() { close(b.all) })
	}
}

func (b *barrier) leave() { b.inside.Add(-1) }

// A barrierSink waits at a barrier while it encodes or writes.
type barrierSink struct {
	sink.Sink
	stage string
	b     *barrier
}

func (s *barrierSink) Encoder(tp sink.TopicPartition) sink.Encoder {
	if s.stage == "encode" {
		return &barrierEncoder{s.Sink.Encoder(tp), s.b}
	}
	return s.Sink.Encoder(tp)
}

func (s *barrierSink) Write(ctx context.Context, c sink.Chunk) error {
	if s.stage == "write" && !c.Empty() {
		s.b.enter()
		defer s.b.leave()
	}
	return s.Sink.Write(ctx, c)
}

type barrierEncoder struct {
	sink.Encoder
	b *barrier
}

func (e *barrierEncoder) Append(dst []byte, r *sink.Record) []byte {
	e.b.enter()
	defer e.b.leave()
	return e.Encoder.Append(dst, r)
}
