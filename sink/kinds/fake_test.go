package kinds

import (
	"context"
	"fmt"
	"testing"

	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/sinkio"
	"kcagent/sink/sinktest"
)

// A memory is what fake sinks write to.
type memory struct {
	mu    sinkio.Mutex // ends the wait of a Write whose context ends
	data  []byte
	fault func() error // guarded by the test: set while no Write is called
}

// A fakeSink is the smallest sink that keeps the contract: it has no ledger, no settings
// that may change, and nothing to flush.
type fakeSink struct {
	sink.Unplanned
	memory   *memory
	format   sink.Format
	encoders encode.Encoders
}

func openFake(spec sink.StdoutSpec, m *memory) (sink.Sink, error) {
	encoders, err := encode.For(spec.Format)
	if err != nil {
		return nil, fmt.Errorf("open fake: %w", err)
	}
	return &fakeSink{memory: m, format: spec.Format, encoders: encoders}, nil
}

func (s *fakeSink) Encoder(tp sink.TopicPartition) sink.Encoder { return s.encoders(tp) }

func (s *fakeSink) Write(ctx context.Context, c sink.Chunk) error {
	if err := s.memory.mu.Lock(ctx); err != nil {
		return err
	}
	defer s.memory.mu.Unlock()
	if s.memory.fault != nil {
		if err := s.memory.fault(); err != nil {
			return err
		}
	}
	if c.Large == nil {
		s.memory.data = append(s.memory.data, c.Data...)
		return nil
	}
	length := len(s.memory.data)
	err := encode.Pieces(s.format, c.Large, sinkio.UntilDone(ctx, func(piece []byte) error {
		s.memory.data = append(s.memory.data, piece...)
		return nil
	}))
	if err != nil {
		s.memory.data = s.memory.data[:length]
	}
	return err
}

func (s *fakeSink) Update(spec sink.Spec) error {
	if spec.Stdout == nil {
		return fmt.Errorf("update fake: cannot become %q", spec.Kind())
	}
	return nil
}

func (s *fakeSink) Resume(context.Context, sink.TopicPartition, sink.Commits) (sink.Ledger, error) {
	return sink.Ledger{Position: sink.Position{Next: -1}}, nil
}

func (s *fakeSink) Adopt(context.Context, sink.TopicPartition, string, sink.Position) error {
	return nil
}
func (s *fakeSink) Limits(sink.TopicPartition) (sink.Limits, bool) { return sink.Limits{}, true }
func (s *fakeSink) Flush(context.Context, bool) error              { return nil }
func (s *fakeSink) Release() error                                 { return nil }
func (s *fakeSink) Close(bool) error                               { return nil }

// fakeKinds is a table with a fake kind, which uses the settings of stdout.
func fakeKinds(m *memory) registry {
	return registry{{
		name: "stdout",
		open: func(_ context.Context, spec sink.Spec, _ sink.Options) (sink.Sink, error) {
			return openFake(*spec.Stdout, m)
		},
	}}
}

// TestFakeKindKeepsTheContract checks that one entry in the table suffices for a further kind
// of sink, and that any kind can run the contract tests.
func TestFakeKindKeepsTheContract(t *testing.T) {
	sinktest.TestContract(t, func(t *testing.T) *sinktest.Target {
		m := &memory{mu: sinkio.NewMutex()}
		spec := sink.Spec{Stdout: &sink.StdoutSpec{Format: sink.Raw}}
		return &sinktest.Target{
			Spec: spec, Changed: spec,
			Other:     sink.Spec{File: &sink.FileSpec{Path: "x", Format: sink.Raw}},
			BadFormat: sink.Spec{Stdout: &sink.StdoutSpec{Format: "xml"}},
			Open: func(ctx context.Context, spec sink.Spec) (sink.Sink, error) {
				return fakeKinds(m).openSink(ctx, spec, sink.Options{})
			},
			SetFault: func(fault func() error) { m.fault = fault },
			Values: func(t *testing.T) []string {
				return sinktest.Values(t, sink.Raw, string(m.data))
			},
		}
	})
}
