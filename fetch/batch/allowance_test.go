package batch

import (
	"bytes"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/limits"
)

// zeroBatch returns a batch of one record with a value of zeros, which zstd makes very small.
func zeroBatch(base int64, size int) []byte {
	r := kmsg.Record{Value: make([]byte, size)}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	records := r.AppendTo(nil)
	encoder, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	const codecZstd = 4
	return batchSpec{base: base, raw: encoder.EncodeAll(records, nil), count: 1, attributes: codecZstd}.bytes()
}

// memoryWithLimit returns the memory of a process with the limit.
func memoryWithLimit(limit int64) *limits.Memory {
	m := new(limits.Memory)
	m.SetLimit(limit)
	return m
}

// TestDecodeStaysWithinGrant: the batches of a response are decompressed as long as they fit into the
// grant. The first batch always is. The others are fetched again.
func TestDecodeStaysWithinGrant(t *testing.T) {
	const size, grant = 10 << 20, 32 << 20
	var raw []byte
	for i := range int64(20) {
		raw = append(raw, zeroBatch(i, size)...)
	}
	p := &kmsg.FetchResponseTopicPartition{RecordBatches: raw}
	fr, ro := NewFrame(1), Allowance{memory: memoryWithLimit(64 << 20), left: grant}
	first := Decode(fr, &ro, p, 0, sarama.ReadCommitted)
	if first.Next != 3 || !first.Deferred || first.Err != nil || first.LargeBytes != 0 || fr.large != 0 || fr.size > grant {
		t.Errorf("next is %d, deferred %v, error %v, %d bytes and %d for large batches", first.Next, first.Deferred, first.Err, fr.size, fr.large)
	}
	if ratio := first.MemoryBytes / first.DecodedBytes; ratio < 500 {
		t.Errorf("the ratio is %d", ratio)
	}
	// Another partition of the response gets the rest of the grant, which is nothing.
	second := Decode(fr, &ro, p, 0, sarama.ReadCommitted)
	if second.Next != 0 || !second.Deferred || second.Err != nil {
		t.Errorf("next is %d, deferred %v, error %v", second.Next, second.Deferred, second.Err)
	}
	// A batch that needs no memory is read all the same.
	plain := &kmsg.FetchResponseTopicPartition{RecordBatches: batchSpec{base: 0, values: []string{"a"}}.bytes()}
	if c := Decode(fr, &ro, plain, 0, sarama.ReadCommitted); c.Next != 1 || c.Deferred {
		t.Errorf("next is %d, deferred %v", c.Next, c.Deferred)
	}
	fr.Release()
	// The first batch takes memory for large batches.
	fr, ro = NewFrame(1), Allowance{memory: memoryWithLimit(64 << 20), left: 1 << 20}
	c := Decode(fr, &ro, p, 0, sarama.ReadCommitted)
	if used := ro.memory.Used(); c.Next != 1 || !c.Deferred || used < size || used > size+100 || fr.large != used {
		t.Errorf("next is %d, deferred %v, %d bytes for large batches", c.Next, c.Deferred, used)
	}
	// The next response does not get it.
	other := Allowance{memory: ro.memory, left: 1 << 20}
	if !other.memory.Acquire("test", 15<<20) {
		t.Fatal("the memory cannot be acquired")
	}
	if c := Decode(NewFrame(1), &other, p, 0, sarama.ReadCommitted); c.Next != 0 || !c.Deferred || c.LargeBytes < size || c.Err != nil {
		t.Errorf("next is %d, deferred %v, %d needed, error %v", c.Next, c.Deferred, c.LargeBytes, c.Err)
	}
	fr.Release()
	if used := ro.memory.Used(); used != 15<<20 {
		t.Errorf("%d bytes are still used", used)
	}
}

// TestTooLargeBatchNamesNextSteps: the error has the size of the batch and both next steps.
func TestTooLargeBatchNamesNextSteps(t *testing.T) {
	p := &kmsg.FetchResponseTopicPartition{RecordBatches: append(batchSpec{base: 4, values: []string{"a"}}.bytes(), zeroBatch(5, 20<<20)...)}
	for _, tt := range []struct {
		limit, batch int64
		want         string
	}{
		{0, 10 << 20, "record batch has 20971533 bytes, more than limits.max_batch (10485760): raise limits.max_batch; to skip it, stop the consumer and reset the group's offset to 6"},
		{32 << 20, 0, "record batch needs 20971533 bytes of memory, and the memory limit of 33554432 bytes allows 16777216 for a batch: raise the memory limit (GOMEMLIMIT, or that of the container); to skip it, stop the consumer and reset the group's offset to 6"},
		{64 << 20, 20 << 20, "record batch has 20971533 bytes, more than limits.max_batch (20971520): raise"},
		{64 << 20, 21 << 20, ""},
	} {
		ro := Allowance{memory: memoryWithLimit(tt.limit), left: 1 << 20}
		ro.memory.SetMaxBatch(tt.batch)
		fr := NewFrame(1)
		c := Decode(fr, &ro, p, 5, sarama.ReadCommitted)
		if tt.want == "" && (c.Err != nil || c.Next != 6) || tt.want != "" && (c.Next != 5 || c.Err == nil || !strings.HasPrefix(c.Err.Error(), tt.want)) {
			t.Errorf("limit %d, max_batch %d: next %d, %v; want %q", tt.limit, tt.batch, c.Next, c.Err, tt.want)
		}
		// After other records, it is fetched again.
		ro.left, ro.hasBatch = 1<<20, false
		if c := Decode(fr, &ro, p, 4, sarama.ReadCommitted); c.Next != 5 || !c.Deferred || c.Err != nil {
			t.Errorf("limit %d, max_batch %d, after another batch: next %d, deferred %v, error %v", tt.limit, tt.batch, c.Next, c.Deferred, c.Err)
		}
		fr.Release()
	}
}

// TestAfterBatchFindsLargeBatch: it finds the batch that makes up nearly all of a response.
func TestAfterBatchFindsLargeBatch(t *testing.T) {
	b := batchSpec{base: 41, values: []string{"a", "b"}, raw: make([]byte, 8000), count: 2, last: 1}.bytes()
	resp := append(bytes.Repeat([]byte{0, 2}, 30), b...)
	if got := afterBatch(resp[:4096], int64(len(resp)+20)); got != 43 {
		t.Errorf("the offset after the batch is %d, want 43", got)
	}
	if got := afterBatch(make([]byte, 4096), 3<<20); got != -1 {
		t.Errorf("the offset after no batch is %d", got)
	}
}

// TestTooLargeErrorNamesSettingToRaise: the memory limit if that is what limits a batch, and otherwise
// limits.max_batch.
func TestTooLargeErrorNamesSettingToRaise(t *testing.T) {
	for name, c := range map[string]struct {
		limit, max int64
		total      bool
		want       string
	}{
		"no memory limit":            {0, 10 << 20, false, "raise limits.max_batch; to skip it, stop the consumer and reset the group's offset to 7"},
		"no memory limit, in all":    {0, 10 << 20, true, "raise limits.max_batch;"},
		"large memory limit, in all": {1 << 30, 10 << 20, true, "raise limits.max_batch;"},
		"small memory limit":         {32 << 20, 128 << 20, false, "the memory limit of 33554432 bytes allows 16777216 for a batch: raise the memory limit"},
		"small memory limit, in all": {32 << 20, 12 << 20, true, "raise the memory limit"},
	} {
		m := new(limits.Memory)
		m.SetLimit(c.limit)
		m.SetMaxBatch(c.max)
		err := &TooLargeError{sizeError{size: 99 << 20, withResponse: c.total}, 7, m}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, want %q", name, err, c.want)
		}
	}
}
