package sink

import (
	"context"
	"io"
)

// writeAll continues after a short write: a nearly full disk answers with one,
// and only the next write tells the error.
func writeAll(w io.Writer, p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := w.Write(p[written:])
		written += n
		if err != nil {
			return written, err
		}
		if n == 0 {
			return written, io.ErrShortWrite
		}
	}
	return written, nil
}

// A countedWriter counts what it has written.
type countedWriter struct {
	w io.Writer
	n int64
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := writeAll(c.w, p)
	c.n += int64(n)
	return n, err
}

// until is put, which stops between two pieces when ctx ends: also if they are compressed to
// so little that nothing was written yet.
func until(ctx context.Context, put func([]byte) error) func([]byte) error {
	begun := false
	return func(b []byte) error {
		if err := context.Cause(ctx); err != nil && begun {
			return err
		}
		begun = true
		return put(b)
	}
}
