// Package sinkio has what several kinds of sink need to write bytes: writes that are whole or
// fail, a mutex that a context can end the wait for, and errors that name the next step.
package sinkio

import (
	"context"
	"io"
)

// WriteAll continues after a short write: a nearly full disk answers with one,
// and only the next write tells the error.
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

// A CountingWriter counts what it has written.
type CountingWriter struct {
	W       io.Writer
	Written int64
}

func (c *CountingWriter) Write(p []byte) (int, error) {
	n, err := WriteAll(c.W, p)
	c.Written += int64(n)
	return n, err
}

// UntilDone is put, which stops between two pieces when ctx ends: also if they are compressed to
// so little that nothing was written yet.
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
