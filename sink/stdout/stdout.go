// Package stdout is the sink that writes records to the standard output of the agent.
//
// All sinks of the process share one stream. Each chunk is written as a whole, so that lines
// of different consumers do not mix. The sink keeps no ledger, and a stream cannot be
// truncated: records may repeat, and a record may be torn if a write fails in the middle.
package stdout

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/sinkio"
)

// An output is a stream that several sinks share. Each chunk is written as a whole.
type output struct {
	w        io.Writer
	mu       sinkio.Mutex
	tornLine bool // a failed write ended within a line; guarded by mu
}

// processOutput returns the standard output, through a descriptor of its own. The runtime
// ends the process when a write to descriptor 1 fails with a broken pipe, and one sink must
// not stop all other consumers.
var processOutput = sync.OnceValue(func() *output {
	o := &output{w: os.Stdout, mu: sinkio.NewMutex()}
	if fd, err := syscall.Dup(int(os.Stdout.Fd())); err == nil {
		syscall.CloseOnExec(fd)
		o.w = os.NewFile(uintptr(fd), "stdout")
	}
	return o
})

// A stdoutSink writes records to a stream. If a write fails in the middle, the chunk is in
// the stream twice after the retry, the first time torn.
type stdoutSink struct {
	sink.Unplanned
	out      *output
	format   sink.Format
	encoders encode.Encoders
}

// Open opens a sink that writes to the standard output of the process.
func Open(spec sink.StdoutSpec) (sink.Sink, error) {
	return newSink(spec, processOutput())
}

func newSink(spec sink.StdoutSpec, out *output) (sink.Sink, error) {
	encoders, err := encode.For(spec.Format)
	if err != nil {
		return nil, fmt.Errorf("open stdout: %w", err)
	}
	return &stdoutSink{out: out, format: spec.Format, encoders: encoders}, nil
}

// Encoder implements [sink.Sink].
func (s *stdoutSink) Encoder(tp sink.TopicPartition) sink.Encoder { return s.encoders(tp) }

// Write implements [sink.Sink].
func (s *stdoutSink) Write(ctx context.Context, c sink.Chunk) error {
	switch {
	case c.Empty():
		return nil
	case c.Large != nil:
		return s.out.write(ctx, func(put func([]byte) error) error { return encode.Pieces(s.format, c.Large, put) })
	}
	return s.out.write(ctx, func(put func([]byte) error) error { return put(c.Data) })
}

// write writes pieces, and nothing else between them.
func (o *output) write(ctx context.Context, pieces func(put func([]byte) error) error) error {
	if err := o.mu.Lock(ctx); err != nil {
		return fmt.Errorf("write stdout: blocked, the reader does not consume: %w", err)
	}
	defer o.mu.Unlock()
	if o.tornLine {
		if _, err := sinkio.WriteAll(o.w, []byte{'\n'}); err != nil {
			return sinkio.OpError("write", "stdout", err)
		}
		o.tornLine = false
	}
	out := &sinkio.CountingWriter{W: o.w}
	if err := pieces(sinkio.UntilDone(ctx, func(b []byte) error { _, err := out.Write(b); return err })); err != nil {
		o.tornLine = out.Written > 0
		return sinkio.OpError("write", "stdout", err)
	}
	return nil
}

// Flush implements [sink.Sink]. The stream has everything that Write has accepted.
func (s *stdoutSink) Flush(context.Context, bool) error { return nil }

// Update implements [sink.Sink]. A stream has no settings that may change.
func (s *stdoutSink) Update(spec sink.Spec) error {
	if spec.Stdout == nil {
		return fmt.Errorf("update sink stdout: its kind cannot be changed to %q", spec.Kind())
	}
	return nil
}

// Resume implements [sink.Sink]. A stream keeps no ledger.
func (s *stdoutSink) Resume(context.Context, sink.TopicPartition, sink.Commits) (sink.Ledger, error) {
	return sink.Ledger{Position: sink.Position{Next: -1}}, nil
}

// Adopt implements [sink.Sink].
func (s *stdoutSink) Adopt(context.Context, sink.TopicPartition, string, sink.Position) error {
	return nil
}

// Limits implements [sink.Sink].
func (s *stdoutSink) Limits(sink.TopicPartition) (sink.Limits, bool) { return sink.Limits{}, true }

// Release implements [sink.Sink].
func (s *stdoutSink) Release() error { return nil }

// Close implements [sink.Sink]. The stream stays open for other sinks.
func (s *stdoutSink) Close(bool) error { return nil }
