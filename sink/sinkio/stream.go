// Package sinkio has what several kinds of sink need to write bytes: a write that is
// complete or fails, a [Mutex] whose Lock ends with a context, and errors that name the next
// step.
package sinkio

import (
	"context"
	"io"
)

// WriteAll writes p, and continues after a short write. A nearly full disk returns a short
// write without an error; only the next write returns the error.
func WriteAll(w io.Writer, p []byte) (int, error) {
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

// A CountingWriter counts the bytes that it has written.
type CountingWriter struct {
	W       io.Writer
	Written int64
}

// Write implements [io.Writer], with [WriteAll].
func (c *CountingWriter) Write(p []byte) (int, error) {
	n, err := WriteAll(c.W, p)
	c.Written += int64(n)
	return n, err
}

// ContextReader returns a reader of r that fails once ctx has ended.
func ContextReader(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// UntilDone returns a function that calls put, until ctx ends between two pieces. It checks
// ctx itself, because pieces may be compressed to so little that nothing is written yet.
func UntilDone(ctx context.Context, put func([]byte) error) func([]byte) error {
	begun := false
	return func(b []byte) error {
		if err := context.Cause(ctx); err != nil && begun {
			return err
		}
		begun = true
		return put(b)
	}
}
