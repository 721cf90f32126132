package sink

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestFreedBatchHoldsNothing: the pool must pin neither a fetch's records nor
// the buffer that one huge record needed.
func TestFreedBatchHoldsNothing(t *testing.T) {
	b := newBatch(appendRaw, []Record{{Value: make([]byte, pooledBytes+1)}})
	if len(b.chunk) != pooledBytes+2 {
		t.Fatalf("chunk of %d bytes", len(b.chunk))
	}
	b.free()
	if b.rest != nil || b.chunk != nil {
		t.Errorf("freed batch holds %d records and %d bytes", cap(b.rest), cap(b.chunk))
	}
}

// TestBatchIsBounded: many records are encoded a chunk at a time.
func TestBatchIsBounded(t *testing.T) {
	value := bytes.Repeat([]byte("x"), 1000)
	recs := make([]Record, 20*chunkBytes/1000)
	for i := range recs {
		recs[i].Value = value
	}
	b := newBatch(appendRaw, recs)
	defer b.free()
	var most int
	n, err := b.writeTo(writerFunc(func(p []byte) (int, error) {
		most = max(most, len(p))
		return len(p), nil
	}))
	if err != nil || n != int64(len(recs)*1001) {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	if most > chunkBytes+1001 {
		t.Errorf("a chunk of %d bytes", most)
	}
}

func TestWriterThatTakesNothing(t *testing.T) {
	n, err := writeAll(writerFunc(func([]byte) (int, error) { return 0, nil }), []byte("x"))
	if n != 0 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %d, %v", n, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
