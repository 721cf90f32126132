package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A compressor compresses as a Kafka client does.
type compressor struct {
	name  string
	codec sarama.CompressionCodec
	pack  func([]byte) []byte
}

func compressors() []compressor {
	stream := func(open func(io.Writer) io.WriteCloser) func([]byte) []byte {
		return func(b []byte) []byte {
			var out bytes.Buffer
			w := open(&out)
			for len(b) > 0 { // as much as a producer writes at a time
				n := min(len(b), 10_000)
				_, _ = w.Write(b[:n])
				b = b[n:]
			}
			_ = w.Close()
			return out.Bytes()
		}
	}
	encoder, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	return []compressor{
		{"gzip", sarama.CompressionGZIP, func(b []byte) []byte { return gzipped(b) }},
		{"lz4", sarama.CompressionLZ4, stream(func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) })},
		{"snappy", sarama.CompressionSnappy, func(b []byte) []byte { return s2.EncodeSnappy(nil, b) }},
		{"snappy, framed", sarama.CompressionSnappy, func(b []byte) []byte { return xerial.Encode(nil, b) }},
		{"zstd", sarama.CompressionZSTD, func(b []byte) []byte { return encoder.EncodeAll(b, nil) }},
		{"zstd without a size", sarama.CompressionZSTD, stream(func(w io.Writer) io.WriteCloser {
			z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			return z
		})},
		{"zstd with a large window", sarama.CompressionZSTD, stream(func(w io.Writer) io.WriteCloser {
			z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(32<<20))
			return z
		})},
		{"zstd in two frames", sarama.CompressionZSTD, func(b []byte) []byte {
			return encoder.EncodeAll(b[len(b)/2:], encoder.EncodeAll(b[:len(b)/2], nil))
		}},
	}
}

// TestDecompressAllocatesExactly: a large batch needs as much memory as it has bytes, which is reserved
// before it is allocated.
func TestDecompressAllocatesExactly(t *testing.T) {
	const size = 48<<20 + 1234
	zeros := make([]byte, size)
	for _, p := range compressors() {
		src := p.pack(zeros)
		var asked int64
		var before, after runtime.MemStats
		inflate1 := func(most int64) ([]byte, error) {
			return decompress(p.codec, src, most, room{reserve: func(n int64) error { asked += n; return nil }})
		}
		_, _ = inflate1(maxPooled) // the pools are filled
		asked = 0
		runtime.ReadMemStats(&before)
		got, err := inflate1(size + zstdBlock)
		runtime.ReadMemStats(&after)
		slack := int64(0)
		if p.name == "zstd with a large window" {
			slack = zstdBlock // its size is not counted, because that would need a large window
		}
		if err != nil || !bytes.Equal(got, zeros) || asked < size || asked > size+slack || int64(cap(got)) > size+slack+8192 {
			t.Errorf("%s: %d of %d bytes, capacity %d, %d reserved, error %v", p.name, len(got), size, cap(got), asked, err)
		}
		if allocated := int64(after.TotalAlloc - before.TotalAlloc); allocated > size+size/2 {
			t.Errorf("%s: %d bytes were allocated for %d", p.name, allocated, size)
		}
		asked = 0
		var tooLarge *sizeError
		if _, err := inflate1(size - 1); !errors.As(err, &tooLarge) || tooLarge.size < size-1 || asked != 0 {
			t.Errorf("%s: with a limit of %d: %v, %d reserved", p.name, size-1, err, asked)
		}
		refusal := errors.New("no")
		if _, err := decompress(p.codec, src, size+zstdBlock, room{reserve: func(int64) error { return refusal }}); !errors.Is(err, refusal) {
			t.Errorf("%s: without memory, the error is %v", p.name, err)
		}
	}
}

// TestZstdSizeBeyondContentIsAnError: a frame that claims a gigabyte and has a few bytes is an error, and
// nothing is allocated for the claim.
func TestZstdSizeBeyondContentIsAnError(t *testing.T) {
	encoder, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	honest := encoder.EncodeAll(make([]byte, 100_000), nil)
	var h zstd.Header
	if err := h.Decode(honest); err != nil || !h.HasFCS {
		t.Fatal(h, err)
	}
	const magic = "\x28\xb5\x2f\xfd"
	lie := append([]byte(magic), 0x80|honest[4]&4, 0x58, 0, 0, 0, 0x40) // four bytes of size, a window, and 1 GiB
	lie = append(lie, honest[h.HeaderSize:]...)
	for name, src := range map[string][]byte{"alone": lie, "after another": append(append([]byte{}, honest...), lie...)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := decompress(sarama.CompressionZSTD, src, 128<<20, room{reserve: func(int64) error { return nil }})
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: %d bytes, no error", name, len(out))
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%s: %d bytes were allocated; error %v", name, n, err)
		}
	}
}

// TestDecompressAnySize tries sizes around those at which buffers change, with data that can be
// compressed and data that cannot.
func TestDecompressAnySize(t *testing.T) {
	random := make([]byte, 2*maxPooled)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for _, size := range []int{2, 100, 4096, 100_000, 128 << 10, 1 << 20, maxPooled - 1, maxPooled, maxPooled + 1, 2 * maxPooled} {
		for name, data := range map[string][]byte{"random": random[:size], "zero": make([]byte, size), "text": bytes.Repeat([]byte("ab"), size)[:size]} {
			for _, p := range compressors() {
				got, err := decompress(p.codec, p.pack(data), int64(size)+zstdBlock, room{reserve: func(int64) error { return nil }})
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %d %s bytes became %d: %v", p.name, size, name, len(got), err)
				}
				if _, err := decompress(p.codec, p.pack(data), int64(size)-1, room{reserve: func(int64) error { return nil }}); err == nil && p.name != "zstd with a large window" {
					t.Errorf("%s: %d %s bytes are not more than %d", p.name, size, name, size-1)
				}
			}
		}
	}
}

// FuzzZstdSize: frames never have more bytes than zstdSize returns.
func FuzzZstdSize(f *testing.F) {
	for _, p := range compressors() {
		if p.codec == sarama.CompressionZSTD {
			f.Add(p.pack(make([]byte, 300_000)))
			f.Add(p.pack(fmt.Append(nil, "some text")))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		size, exact, err := zstdSize(src)
		if size > 64<<20 || err != nil {
			return
		}
		out, err := zstdDecoder().DecodeAll(src, make([]byte, 0, size))
		if err == nil && (int64(len(out)) > size || exact && int64(len(out)) != size) || int64(len(out)) > size+zstdBlock {
			t.Errorf("%d bytes, and the headers say %d (exact: %v)", len(out), size, exact)
		}
	})
}
