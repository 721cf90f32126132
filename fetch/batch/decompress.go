package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/pierrec/lz4/v4"

	"kcagent/buffers"
)

// maxPooled is the largest decompressed size for which a growing, pooled buffer is used. The size
// of a larger batch is determined first, so that its buffer has exactly that size.
const maxPooled = 4 << 20

// A sizeError reports that a decompressed batch is larger than allowed.
type sizeError struct {
	size         int64
	atLeast      bool // size is a lower bound: counting ended there
	withResponse bool // size includes the response that brought the batch
}

func (e *sizeError) Error() string {
	return fmt.Sprintf("decompressed batch has %d bytes, more than allowed", e.size)
}

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
)

// A room is the memory for one decompressed batch. If a function returns an error, decompress
// returns it.
type room struct {
	reserve func(size int64) error // is called before a large buffer of exactly this size is allocated
	claim   func(more int64) error // is called before pooled buffers of more bytes are used, or of less if it is negative; nil if they are not limited
}

// get returns a pooled buffer with room for n bytes, which replaces one of replaced bytes.
func (m room) get(n, replaced int) ([]byte, error) {
	if m.claim != nil {
		if err := m.claim(int64(buffers.Size(n) - replaced)); err != nil {
			return nil, err
		}
	}
	return buffers.Get(n), nil
}

// put takes back a buffer from get that is not needed any more.
func (m room) put(b []byte) {
	if m.claim != nil {
		_ = m.claim(-int64(cap(b))) // less is always possible
	}
	buffers.Put(b)
}

// decompress decompresses src into a buffer, which comes from a pool if it is small. A batch of
// more than limit bytes is a [*sizeError].
func decompress(codec sarama.CompressionCodec, src []byte, limit int64, m room) ([]byte, error) {
	switch codec {
	case sarama.CompressionGZIP:
		r := gzipReaders.Get().(*gzip.Reader)
		if len(src) <= maxPooled {
			defer gzipReaders.Put(r) // a reader keeps src
		}
		return readAll(r, func() error { return r.Reset(bytes.NewReader(src)) }, len(src), limit, m)
	case sarama.CompressionLZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		if len(src) <= maxPooled {
			defer lz4Readers.Put(r)
		}
		return readAll(r, func() error { r.Reset(bytes.NewReader(src)); return nil }, len(src), limit, m)
	case sarama.CompressionSnappy:
		return decompressSnappy(src, limit, m)
	case sarama.CompressionZSTD:
		return decompressZstd(src, limit, m)
	}
	return nil, fmt.Errorf("unknown compression codec %d", codec)
}

// readAll reads r to the end. n is the compressed size. A large batch is read twice, the first
// time only to count its bytes.
func readAll(r io.Reader, reset func() error, n int, limit int64, m room) ([]byte, error) {
	if err := reset(); err != nil {
		return nil, err
	}
	b, err := m.get(min(4*n, maxPooled), 0)
	if err != nil {
		return nil, err
	}
	for len(b) < maxPooled {
		if len(b) == cap(b) {
			larger, err := m.get(2*cap(b), cap(b))
			if err != nil {
				m.put(b)
				return nil, err
			}
			larger = append(larger, b...)
			buffers.Put(b)
			b = larger
		}
		got, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+got]
		switch {
		case errors.Is(err, io.EOF) && int64(len(b)) <= limit:
			return b, nil
		case errors.Is(err, io.EOF):
			err = &sizeError{size: int64(len(b))}
			fallthrough
		case err != nil:
			m.put(b)
			return nil, err
		}
	}
	size, err := count(r, b[:cap(b)], int64(len(b)), limit)
	m.put(b)
	if err != nil {
		return nil, err
	}
	if err := m.reserve(size); err != nil {
		return nil, err
	}
	if err := reset(); err != nil {
		return nil, err
	}
	b = make([]byte, size)
	_, err = io.ReadFull(r, b)
	return b, err
}

// count returns how many bytes r has, of which size were read already. It ends with a
// [*sizeError] once there are more than limit.
func count(r io.Reader, scratch []byte, size, limit int64) (int64, error) {
	for size <= limit {
		n, err := r.Read(scratch)
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF) && size <= limit:
			return size, nil
		case errors.Is(err, io.EOF):
			return 0, &sizeError{size: size}
		case err != nil:
			return 0, err
		}
	}
	return 0, &sizeError{size: size, atLeast: true}
}
