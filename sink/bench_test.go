package sink

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// payloads are values of 200 bytes each.
var payloads = map[string][]byte{
	"text": bytes.Repeat([]byte("order-confirmed "), 13)[:200],
	"json": bytes.Repeat([]byte(`{"id":12345,"state":"paid"},`), 8)[:200],
	"binary": func() []byte {
		b := make([]byte, 200)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}(),
}

func batchOf(n int, value []byte) []Record {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{
			Topic: "orders", Partition: 3, Offset: int64(1_000_000 + i), Time: time.UnixMilli(1_700_000_000_000 + int64(i)),
			Key: fmt.Appendf(nil, "key-%d", i), Value: value,
		}
	}
	return recs
}

func BenchmarkEncode(b *testing.B) {
	for _, format := range []Format{Raw, JSON} {
		encode, err := format.encoder()
		if err != nil {
			b.Fatal(err)
		}
		for name, value := range payloads {
			recs := batchOf(256, value)
			b.Run(fmt.Sprintf("%s/%s", format, name), func(b *testing.B) {
				var dst []byte
				b.SetBytes(int64(len(value)))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					dst = encode(dst[:0], &recs[i%len(recs)])
				}
			})
		}
	}
}

// BenchmarkFileWrite writes batches of 256 records of 200 bytes; an operation
// is one batch.
func BenchmarkFileWrite(b *testing.B) {
	for _, format := range []Format{Raw, JSON} {
		for _, payload := range []string{"text", "json"} {
			b.Run(fmt.Sprintf("%s/%s", format, payload), func(b *testing.B) {
				spec := Spec{File: &FileSpec{Path: filepath.Join(b.TempDir(), "out.log"), Format: format, Durability: None}}
				s, err := Open(b.Context(), spec, Options{})
				if err != nil {
					b.Fatal(err)
				}
				recs := batchOf(256, payloads[payload])
				b.SetBytes(256 * 200)
				b.ReportAllocs()
				for b.Loop() {
					if err := write(b.Context(), s, recs); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Close(false); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// TestWriteAllocatesNothing: not per record, and not per batch either.
func TestWriteAllocatesNothing(t *testing.T) {
	for _, format := range []Format{Raw, JSON} {
		spec := Spec{File: &FileSpec{Path: filepath.Join(t.TempDir(), "{topic}.log"), Format: format}}
		s := mustOpen(t, spec, nil)
		recs := batchOf(256, payloads["json"])
		allocs := testing.AllocsPerRun(50, func() {
			if err := write(t.Context(), s, recs); err != nil {
				t.Fatal(err)
			}
		})
		if allocs >= 1 && !raceEnabled {
			t.Errorf("%s: %.0f allocations a batch", format, allocs)
		}
		mustClose(t, s)
	}
}

// BenchmarkRotateInFolder completes a file and flushes, which is what a commit waits for,
// beside so many complete files, of which keep removes one each time.
func BenchmarkRotateInFolder(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) { benchmarkRotate(b, n) })
	}
}

func benchmarkRotate(b *testing.B, files int) {
	path, clk := filepath.Join(b.TempDir(), "out.log"), newClock()
	for i := range files {
		at := clk.now().Add(time.Duration(i-files) * time.Second)
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), completeName(path, at, Uncompressed)), payloads["text"], 0o600); err != nil {
			b.Fatal(err)
		}
	}
	spec := exactSpec(path)
	spec.File.Rotate = &Rotate{Size: 100, Keep: files}
	s, err := Open(b.Context(), spec, Options{Consumer: "c", Group: "g", Now: clk.now})
	if err != nil {
		b.Fatal(err)
	}
	clk.add(scanWithin)
	s.(*fileSink).keeper.start() // lists the folder
	recs, slowest := batchOf(2, payloads["text"]), time.Duration(0)
	for b.Loop() {
		clk.add(time.Second)
		recs[0].Offset, recs[1].Offset = recs[1].Offset+1, recs[1].Offset+2
		began := time.Now()
		if err := write(b.Context(), s, recs); err != nil {
			b.Fatal(err)
		}
		if err := s.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
	if err := s.Close(false); err != nil {
		b.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > files+10 {
		b.Errorf("%d files are left, want %d; %v", len(left), files, err)
	}
}
