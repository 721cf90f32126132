package batch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/limits"
)

// setCores sets how many cores the process may use, until the test ends.
func setCores(t *testing.T, n int) {
	was := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// packedBatch returns a batch of one record, compressed.
func packedBatch(base int64, c compressor, value []byte) []byte {
	r := kmsg.Record{Value: value}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	records := r.AppendTo(nil)
	return batchSpec{base: base, raw: c.pack(records), count: 1, attributes: int16(c.codec)}.bytes()
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32()) & 15 // it can be compressed to half of its size
	}
	return b
}

// TestPartitionsOfAResponseAreDecodedConcurrently: eight cores decompress the eight partitions of a
// response at the same time.
func TestPartitionsOfAResponseAreDecodedConcurrently(t *testing.T) {
	const cores = 8
	setCores(t, cores)
	var inside atomic.Int32
	all := make(chan struct{})
	gzipReaders = sync.Pool{New: func() any {
		if inside.Add(1) == cores {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(2 * time.Minute):
			t.Errorf("%d partitions are decompressed at the same time, want %d", inside.Load(), cores)
		}
		return new(gzip.Reader)
	}}
	t.Cleanup(func() { gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }} })
	rnd := rand.New(rand.NewPCG(1, 1))
	packed := compressors()[0]
	entries := make([]Entry, cores)
	for i := range entries {
		var raw []byte
		if i == 0 { // the first batch of a response is decoded before all others
			raw = batchSpec{base: 0, values: []string{"a"}}.bytes()
		}
		raw = append(raw, packedBatch(1, packed, randomBytes(rnd, 64<<10))...)
		entries[i].Partition = &kmsg.FetchResponseTopicPartition{RecordBatches: raw}
	}
	fr := NewFrame(1)
	for i, c := range DecodeAll(fr, largeAllowance(), entries, sarama.ReadCommitted) {
		if c.Next != 2 || c.Err != nil || c.Deferred {
			t.Errorf("partition %d: next is %d, deferred %v, error %v", i, c.Next, c.Deferred, c.Err)
		}
	}
	fr.Release()
}

// TestWorkersOfAResponse: goroutines cost more than they save for small or uncompressed responses,
// for a single partition, and with two cores, which the lanes of a fetcher use.
func TestWorkersOfAResponse(t *testing.T) {
	packed := func(n int) Entry {
		return Entry{Partition: &kmsg.FetchResponseTopicPartition{RecordBatches: batchSpec{raw: make([]byte, n), count: 1, attributes: 4}.bytes()}}
	}
	plain := func(n int) Entry {
		return Entry{Partition: &kmsg.FetchResponseTopicPartition{RecordBatches: batchSpec{raw: make([]byte, n), count: 1}.bytes()}}
	}
	cutOff := packed(1 << 20)
	cutOff.Partition.RecordBatches = cutOff.Partition.RecordBatches[:1<<19]
	for _, tc := range []struct {
		what           string
		cores, workers int
		entries        []Entry
	}{
		{"two cores", 2, 1, []Entry{packed(1 << 20), packed(1 << 20)}},
		{"one partition", 8, 1, []Entry{packed(1 << 20)}},
		{"one partition with records", 8, 1, []Entry{packed(1 << 20), {}, cutOff}},
		{"small ones", 8, 1, []Entry{packed(1 << 10), packed(1 << 10), packed(1 << 10)}},
		{"small uncompressed ones", 8, 1, []Entry{plain(64 << 10), plain(64 << 10)}},
		{"large uncompressed ones", 8, 2, []Entry{plain(1 << 20), plain(1 << 20)}},
		{"large ones", 8, 3, []Entry{packed(1 << 20), packed(1 << 20), packed(1 << 20)}},
		{"many", 8, 8, append(make([]Entry, 3), packed(1<<20), packed(1<<20), packed(1<<20), packed(1<<20), packed(1<<20), packed(1<<20), packed(1<<20), packed(1<<20), packed(1<<20))},
	} {
		was := runtime.GOMAXPROCS(tc.cores)
		got := workersFor(tc.entries)
		runtime.GOMAXPROCS(was)
		if got != tc.workers {
			t.Errorf("%s: %d goroutines, want %d", tc.what, got, tc.workers)
		}
	}
}

// TestZstdDecoderFollowsTheCores: the shared decoder decodes as many batches at a time as there are
// cores, also if their number grows while the process runs.
func TestZstdDecoderFollowsTheCores(t *testing.T) {
	for _, cores := range []int{2, 8, 12, 2} {
		was := runtime.GOMAXPROCS(cores)
		d := zstdDecoder()
		runtime.GOMAXPROCS(was)
		if s := zstdShared.Load(); s.Decoder != d || s.calls < cores {
			t.Errorf("%d batches at a time on %d cores", s.calls, cores)
		}
	}
}

// TestConcurrentDecodingEqualsSequential: with eight cores, random responses lead to the same
// contents. A batch that cannot be read ends the content of its partition only.
func TestConcurrentDecodingEqualsSequential(t *testing.T) {
	setCores(t, 8)
	all := smallWindows()
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		entries := randomResponse(rnd, all)
		memory := new(limits.Memory)
		fr, one := NewFrame(1), NewFrame(1)
		got := DecodeAll(fr, &Allowance{memory: memory, left: 64 << 20}, entries, sarama.ReadCommitted)
		allowance := Allowance{memory: memory, left: 64 << 20}
		for i, e := range entries {
			want := Decode(one, &allowance, e.Partition, e.Offset, sarama.ReadCommitted)
			if err := isStartOf(got[i], want); err != nil || got[i].Next != want.Next {
				t.Errorf("seed %d, partition %d: %v; next is %d, want %d", seed, i, err, got[i].Next, want.Next)
			}
		}
		fr.Release()
		one.Release()
	}
}

// TestConcurrentDecodingStaysWithinGrant: whatever the grant is, each partition gets its first
// batches, as many as fit, and the others are deferred. What all of them use is counted.
func TestConcurrentDecodingStaysWithinGrant(t *testing.T) {
	setCores(t, 8)
	all := smallWindows()
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		entries := randomResponse(rnd, all)
		memory, grant := new(limits.Memory), rnd.Int64N(3<<19)
		full := DecodeAll(NewFrame(1), &Allowance{memory: memory, left: 64 << 20}, entries, sarama.ReadCommitted)
		fr, allowance := &Frame{}, &Allowance{memory: memory, left: grant}
		batches, readable := 0, 0
		for i, got := range DecodeAll(fr, allowance, entries, sarama.ReadCommitted) {
			if err := isStartOf(got, full[i]); err != nil {
				t.Errorf("seed %d, partition %d: %v", seed, i, err)
			}
			if got.Next < full[i].Next && !got.Deferred {
				t.Errorf("seed %d, partition %d: next is %d of %d, and the rest is not deferred", seed, i, got.Next, full[i].Next)
			}
			batches, readable = batches+len(got.batches), readable+len(full[i].batches)
		}
		var extras int64
		for _, b := range fr.extras {
			extras += int64(cap(b))
		}
		if allowance.left < 0 || fr.size != grant-allowance.left || extras != fr.size+fr.large || memory.Used() != fr.large {
			t.Errorf("seed %d: %d of %d are left, and the frame counts %d and %d, has %d, and holds %d for large batches",
				seed, allowance.left, grant, fr.size, fr.large, extras, memory.Used())
		}
		if batches == 0 && readable > 0 {
			t.Errorf("seed %d: no batch of %d was decoded", seed, readable)
		}
		fr.Release()
		allowance.Close()
		if used := memory.Used(); used != 0 {
			t.Errorf("seed %d: %d bytes are still used", seed, used)
		}
	}
}

// smallWindows returns the compressors without the one that needs much memory.
func smallWindows() []compressor {
	return slices.DeleteFunc(compressors(), func(c compressor) bool { return c.name == "zstd with a large window" })
}

// randomResponse returns eight partitions with some batches each. Some batches cannot be read, are
// aborted or cut off.
func randomResponse(rnd *rand.Rand, all []compressor) []Entry {
	const transactional = 0x10
	content := randomBytes(rnd, 100<<10)
	entries := make([]Entry, 8)
	for i := range entries {
		p := &kmsg.FetchResponseTopicPartition{}
		base := int64(0)
		for range rnd.IntN(8) {
			c := all[rnd.IntN(len(all))]
			if rnd.IntN(6) == 0 {
				c = compressor{"none", sarama.CompressionNone, func(b []byte) []byte { return b }}
			}
			b := packedBatch(base, c, content[rnd.IntN(len(content)):])
			switch rnd.IntN(20) {
			case 0:
				b[len(b)-1] ^= 1 // the checksum is wrong
			case 1:
				b[batchHeader+rnd.IntN(10)] ^= 0xff
				seal(b)
			case 2:
				b[22] |= transactional
				seal(b)
				p.AbortedTransactions = append(p.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{FirstOffset: base})
			}
			p.RecordBatches = append(p.RecordBatches, b...)
			base += 1 + rnd.Int64N(2)*rnd.Int64N(3)
		}
		if n := len(p.RecordBatches); n > 0 && rnd.IntN(3) == 0 {
			p.RecordBatches = p.RecordBatches[:n-rnd.IntN(min(n, 1000))]
		}
		entries[i] = Entry{Partition: p, Offset: rnd.Int64N(2)}
	}
	return entries
}

// isStartOf returns an error if got is not the first part of a content.
func isStartOf(got, full Content) error {
	if len(got.batches) > len(full.batches) || got.Next > full.Next {
		return fmt.Errorf("%d batches up to %d of %d up to %d", len(got.batches), got.Next, len(full.batches), full.Next)
	}
	for k, b := range got.batches {
		if f := full.batches[k]; !bytes.Equal(b.data, f.data) || b.base != f.base || b.from != f.from || b.count != f.count {
			return fmt.Errorf("batch %d differs", k)
		}
	}
	switch {
	case got.Err != nil && (full.Err == nil || got.Next != full.Next):
		return got.Err
	case got.Err == nil && full.Err != nil && got.Next == full.Next && !got.Deferred:
		return errors.New("the error is missing")
	}
	return nil
}
