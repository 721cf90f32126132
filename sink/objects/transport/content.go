package transport

import (
	"context"
	"io"

	"kcagent/sink/sinkio"
)

// A ContentError says that the content of an upload could not be read. The store is not the cause.
type ContentError struct{ Err error }

func (e *ContentError) Error() string { return "read the content: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ContentError) Unwrap() error { return e.Err }

// Hash writes size bytes of the content of an upload to sum, a checksum. The store then rejects content
// that has changed on its way. The error is that of ctx, or a [*ContentError].
func Hash(ctx context.Context, sum io.Writer, body io.ReaderAt, at, size int64) error {
	n, err := io.Copy(sum, sinkio.ContextReader(ctx, io.NewSectionReader(body, at, size)))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && n < size:
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return &ContentError{err}
	}
	return nil
}
