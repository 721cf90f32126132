package sinkio

import (
	"errors"
	"io"
	"testing"
)

func TestWriteAllReportsAWriterThatWritesNothing(t *testing.T) {
	n, err := WriteAll(writerFunc(func([]byte) (int, error) { return 0, nil }), []byte("x"))
	if n != 0 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %d, %v", n, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
