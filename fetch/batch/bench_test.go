package batch

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// BenchmarkDecode decodes a response with eight batches of 100 KB of records, as a producer compresses
// them.
func BenchmarkDecode(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	var records []byte
	count := int32(0)
	for ; len(records) < 100_000; count++ {
		value := fmt.Appendf(nil, `{"id":%d,"state":"paid","amount":%d}`, random.Uint64(), random.IntN(1000))
		r := kmsg.Record{OffsetDelta: count, Value: value}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		records = r.AppendTo(records)
	}
	encoder, _ := zstd.NewWriter(nil)
	stream := func(open func(io.Writer) io.WriteCloser) []byte {
		var out bytes.Buffer
		w := open(&out)
		_, _ = w.Write(records)
		_ = w.Close()
		return out.Bytes()
	}
	for _, bench := range []struct {
		name  string
		codec int16
		raw   []byte
	}{
		{"none", 0, records},
		{"gzip", 1, stream(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })},
		{"snappy", 2, xerial.Encode(nil, records)},
		{"lz4", 3, stream(func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) })},
		{"zstd", 4, encoder.EncodeAll(records, nil)},
		{"zstd-stream", 4, stream(func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z })},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var raw []byte
			for i := range int64(8) {
				raw = append(raw, batchSpec{base: i * int64(count), raw: bench.raw, count: count, last: count - 1, attributes: bench.codec}.bytes()...)
			}
			p := &kmsg.FetchResponseTopicPartition{RecordBatches: raw}
			b.SetBytes(int64(8 * len(records)))
			b.ReportAllocs()
			for b.Loop() {
				fr := NewFrame(1)
				if c := Decode(fr, largeAllowance(), p, 0, sarama.ReadCommitted); c.Next != 8*int64(count) {
					b.Fatal(c.Next, c.Err)
				}
				fr.Release()
			}
		})
	}
}

// benchContent returns a response with a batch of 1000 records, with values of n bytes, and the bytes
// of the values.
func benchContent(n int, headers ...kmsg.Header) (c Content, size int64) {
	var records []byte
	for i := range int32(1000) {
		r := kmsg.Record{OffsetDelta: i, TimestampDelta64: int64(i), Value: bytes.Repeat([]byte("x"), n), Headers: headers}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // of one byte
		records = r.AppendTo(records)
	}
	raw := batchSpec{raw: records, count: 1000, last: 999}.bytes()
	return Decode(NewFrame(1), largeAllowance(), &kmsg.FetchResponseTopicPartition{RecordBatches: raw}, 0, sarama.ReadCommitted), int64(1000 * n)
}

// BenchmarkValues appends the values of records to a buffer, each with a newline: with a call for
// each record, and at once.
func BenchmarkValues(b *testing.B) {
	header := kmsg.Header{Key: "traceparent", Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}
	for _, bench := range []struct {
		name    string
		size    int
		headers []kmsg.Header
	}{{"50B", 50, nil}, {"100B", 100, nil}, {"200B", 200, nil}, {"1000B", 1000, nil}, {"200B-header", 200, []kmsg.Header{header}}} {
		c, size := benchContent(bench.size, bench.headers...)
		dst := make([]byte, 0, 2<<20)
		b.Run("each/"+bench.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				p, buf := c.Part(), dst
				if _, err := p.Each(func(r *Record) bool {
					buf = append(append(buf, r.Value...), '\n')
					return true
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("append/"+bench.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				p, v := c.Part(), Values{Data: dst}
				if _, handOver, err := p.AppendValues(&v, ValueLimits{Data: 2 << 20, Record: 2 << 20}); err != nil || handOver {
					b.Fatal(handOver, err)
				}
			}
		})
	}
}
