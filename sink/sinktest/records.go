package sinktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kcagent/sink"
)

// Values decodes the values of the records in a sink's bytes. The bytes must end after a
// whole line.
func Values(t *testing.T, format sink.Format, content string) []string {
	t.Helper()
	if content == "" {
		return nil
	}
	if !strings.HasSuffix(content, "\n") {
		t.Errorf("torn last line: %q", content[strings.LastIndex(content, "\n")+1:])
	}
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	if format == sink.Raw {
		return lines
	}
	for i, line := range lines {
		var envelope struct{ Value string }
		if err := json.Unmarshal([]byte(line), &envelope); err != nil {
			t.Fatalf("line %d: %v: %q", i+1, err, line)
		}
		lines[i] = envelope.Value
	}
	return lines
}

// Records returns n records of a partition, from an offset. Their values contain partition
// and offset.
func Records(partition int32, from, n int) []sink.Record {
	recs := make([]sink.Record, n)
	for i := range recs {
		recs[i] = sink.Record{
			Topic: "orders", Partition: partition, Offset: int64(from + i),
			Time: time.UnixMilli(1700000000000), Value: []byte(Value(partition, from+i)),
		}
	}
	return recs
}

// Value returns the value of a record of [Records].
func Value(partition int32, offset int) string { return fmt.Sprintf("p%d-%06d", partition, offset) }

// Want returns the values of [Records].
func Want(partition int32, from, n int) []string {
	var vs []string
	for i := range n {
		vs = append(vs, Value(partition, from+i))
	}
	return vs
}

// OfPartition returns the values of one partition, in order.
func OfPartition(vs []string, partition int32) []string {
	prefix := fmt.Sprintf("p%d-", partition)
	return slices.DeleteFunc(slices.Clone(vs), func(v string) bool { return !strings.HasPrefix(v, prefix) })
}

// Equal fails the test unless the values are equal.
func Equal(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Fatalf("%d lines, want %d; the first %d are equal, then\n got %.5q\nwant %.5q", len(got), len(want), i, got[i:], want[i:])
}

var chunks = sync.Pool{New: func() any { return new([]byte) }}

// Write encodes recs, which are of one partition, and writes them as one chunk. Then it
// overwrites the chunk, because a sink must not retain it.
func Write(ctx context.Context, s sink.Sink, recs []sink.Record) error {
	tp := sink.TopicPartition{Topic: "orders"}
	if len(recs) > 0 {
		tp.Topic, tp.Partition = recs[0].Topic, recs[0].Partition
	}
	return WriteWith(ctx, s, tp, s.Encoder(tp), recs)
}

// WriteWith is [Write] with an encoder of s for tp.
func WriteWith(ctx context.Context, s sink.Sink, tp sink.TopicPartition, encoder sink.Encoder, recs []sink.Record) error {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	c := sink.Chunk{TopicPartition: tp, Data: (*buf)[:0], Count: len(recs)}
	if len(recs) > 0 {
		c.Time = recs[0].Time
	}
	for i := range recs {
		c.Last = len(c.Data)
		c.Data = encoder.Append(c.Data, &recs[i])
		c.Next = recs[i].Offset + 1
	}
	err := s.Write(ctx, c)
	for i := range c.Data {
		c.Data[i] = '#'
	}
	*buf = c.Data
	return err
}

// Payloads are values of 200 bytes.
var Payloads = map[string][]byte{
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

// Batch returns n records of a partition, with keys and the same value.
func Batch(n int, value []byte) []sink.Record {
	recs := make([]sink.Record, n)
	for i := range recs {
		recs[i] = sink.Record{
			Topic: "orders", Partition: 3, Offset: int64(1_000_000 + i), Time: time.UnixMilli(1_700_000_000_000 + int64(i)),
			Key: fmt.Appendf(nil, "key-%d", i), Value: value,
		}
	}
	return recs
}

// WriteLarge writes r as a chunk that the sink encodes while it writes it.
func WriteLarge(ctx context.Context, s sink.Sink, r *sink.Record) error {
	return s.Write(ctx, sink.Chunk{TopicPartition: sink.TopicPartition{Topic: r.Topic, Partition: r.Partition}, Large: r, Next: r.Offset + 1, Count: 1, Time: r.Time})
}
