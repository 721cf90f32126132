package sink

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// An output is a stream that several sinks share: a chunk is written by itself.
type output struct {
	w    io.Writer
	turn turn
	torn bool // a failed write ended within a line; guarded by turn
}

// processOutput is the standard output. It is used through a descriptor of its
// own, for the runtime ends the process when a write to descriptor 1 meets a
// broken pipe, and one sink must not stop the consumers of all others.
var processOutput = sync.OnceValue(func() *output {
	o := &output{w: os.Stdout, turn: newTurn()}
	if fd, err := syscall.Dup(int(os.Stdout.Fd())); err == nil {
		syscall.CloseOnExec(fd)
		o.w = os.NewFile(uintptr(fd), "stdout")
	}
	return o
})

// A stdoutSink writes records to a stream. Nothing can be cut off a stream, so
// a chunk whose write failed halfway stands there twice after the retry, the
// first time torn.
type stdoutSink struct {
	out    *output
	format Format
	encode encoder
}

func openStdout(spec StdoutSpec) (Sink, error) {
	return newStdout(spec, processOutput())
}

func newStdout(spec StdoutSpec, out *output) (Sink, error) {
	encode, err := encoderOf(spec.Format)
	if err != nil {
		return nil, fmt.Errorf("open stdout: %w", err)
	}
	return &stdoutSink{out: out, format: spec.Format, encode: encode}, nil
}

// Encode implements [Sink].
func (s *stdoutSink) Encode(dst []byte, r *Record) []byte { return s.encode(dst, r) }

// Write implements [Sink].
func (s *stdoutSink) Write(ctx context.Context, c Chunk) error {
	switch {
	case c.Empty():
		return nil
	case c.Large != nil:
		return s.out.write(ctx, func(put func([]byte) error) error { return pieces(s.format, c.Large, put) })
	}
	return s.out.write(ctx, func(put func([]byte) error) error { return put(c.Data) })
}

// write writes pieces, and nothing else between them.
func (o *output) write(ctx context.Context, pieces func(put func([]byte) error) error) error {
	if err := o.turn.take(ctx); err != nil {
		return fmt.Errorf("write stdout: blocked, its reader does not consume: %w", err)
	}
	defer o.turn.give()
	if o.torn {
		if _, err := writeAll(o.w, []byte{'\n'}); err != nil {
			return fault("write", "stdout", err)
		}
		o.torn = false
	}
	out := &countedWriter{w: o.w}
	if err := pieces(until(ctx, func(b []byte) error { _, err := out.Write(b); return err })); err != nil {
		o.torn = out.n > 0
		return fault("write", "stdout", err)
	}
	return nil
}

// Flush implements [Sink]: what Write has accepted, the stream has taken.
func (s *stdoutSink) Flush(context.Context) error { return nil }

// Update implements [Sink]; nothing can change.
func (s *stdoutSink) Update(spec Spec) error {
	if spec.Stdout == nil {
		return fmt.Errorf("update sink stdout: the new one is of kind %q", spec.Kind())
	}
	return nil
}

// Resume implements [Sink]: a stream keeps no ledger.
func (s *stdoutSink) Resume(context.Context, TopicPartition, Commits) (Ledger, error) {
	return Ledger{Position: Position{Next: -1}}, nil
}

// Adopt implements [Sink].
func (s *stdoutSink) Adopt(context.Context, TopicPartition, string, Position) error { return nil }

// Room implements [Sink].
func (s *stdoutSink) Room(TopicPartition) int { return 0 }

// Release implements [Sink].
func (s *stdoutSink) Release() error { return nil }

// Close implements [Sink]. The stream stays open for the others.
func (s *stdoutSink) Close(bool) error { return nil }
