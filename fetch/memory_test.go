package fetch

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
)

// compressingClient returns a client whose batches have one record each.
func (r *rig) compressingClient(codec kgo.CompressionCodec) *kgo.Client {
	return r.newClient(kgo.ProducerBatchMaxBytes(200<<20), kgo.BrokerMaxWriteBytes(300<<20), kgo.ProducerBatchCompression(codec),
		kgo.MaxBufferedRecords(1), kgo.ProducerLinger(0))
}

// paddedValue returns the value of record n, followed by zeros.
func paddedValue(n, size int) []byte {
	return append(fmt.Appendf(nil, "v%d", n), make([]byte, size)...)
}

// trimZeros returns the values without their zeros.
func trimZeros(got []string) (short []string) {
	for _, g := range got {
		short = append(short, strings.TrimRight(g, "\x00"))
	}
	return short
}

// TestCompressibleBatchesStayInBudget: hundreds of MiB of batches that are a few KiB compressed, in
// several partitions, are read with the memory that the settings allow.
func TestCompressibleBatchesStayInBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 4, Settings{Lanes: 2, MaxBytes: 4 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	c := r.compressingClient(kgo.ZstdCompression())
	const each, size = 60, 1 << 20
	for p := range int32(4) {
		for i := range each {
			r.send(c, &kgo.Record{Partition: p, Value: paddedValue(i, size)})
		}
	}
	var readers []*reader
	for p := range int32(4) {
		readers = append(readers, r.startReader(Spec{Partition: p, MaxBytes: 1 << 20}, false))
	}
	for _, rd := range readers {
		r.eventually("all records", func() (bool, any) {
			got, _, err := rd.seen()
			return len(got) == each, fmt.Sprint(len(got), err, rd.LastError())
		})
		got, _, _ := rd.seen()
		for i, g := range trimZeros(got) {
			if g != fmt.Sprintf("%d=v%d", i, i) {
				t.Fatalf("record %d is %s", i, g)
			}
		}
	}
	r.fetcher.mu.Lock()
	defer r.fetcher.mu.Unlock()
	if b := r.fetcher.budget; b.peak > b.limit+b.limit/4 || b.limit != 8<<20 { // buffers are up to a quarter larger than their content
		t.Errorf("%d bytes of %d were used", b.peak, b.limit)
	}
}

// TestConcurrentDecodingStaysInBudget: eight cores decode the partitions of a response concurrently.
// Each partition gets its records once and in order, within the memory that the settings allow.
func TestConcurrentDecodingStaysInBudget(t *testing.T) {
	was := runtime.GOMAXPROCS(8)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
	const partitions, each = 8, 30
	r := newRig(t, 1, partitions, Settings{Lanes: 2, MaxBytes: 2 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	for _, codec := range []kgo.CompressionCodec{kgo.ZstdCompression(), kgo.Lz4Compression(), kgo.GzipCompression(), kgo.SnappyCompression()} {
		c := r.compressingClient(codec)
		for p := range int32(partitions) {
			for range each / 4 {
				value := make([]byte, 100<<10)
				for i := range value {
					value[i] = "0123456789abcdef"[rand.IntN(16)]
				}
				r.send(c, &kgo.Record{Partition: p, Value: value})
			}
		}
	}
	var readers []*reader
	for p := range int32(partitions) {
		readers = append(readers, r.startReader(Spec{Partition: p, MaxBytes: 1 << 20}, false))
	}
	for _, rd := range readers {
		r.eventually("all records", func() (bool, any) {
			got, _, err := rd.seen()
			return len(got) == each/4*4, fmt.Sprint(len(got), err, rd.LastError())
		})
		got, _, _ := rd.seen()
		for i, g := range got {
			if !strings.HasPrefix(g, fmt.Sprintf("%d=", i)) {
				t.Fatalf("record %d is %.20s", i, g)
			}
		}
	}
	r.fetcher.mu.Lock()
	defer r.fetcher.mu.Unlock()
	if b := r.fetcher.budget; b.peak > b.limit+b.limit/4 || b.limit != 4<<20 {
		t.Errorf("%d bytes of %d were used", b.peak, b.limit)
	}
}

// TestUnreadLargeBatchGivesWay: of two batches, with memory for one, the second one is read although
// the consumer of the first one does not read it, compressed or not.
func TestUnreadLargeBatchGivesWay(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string]kgo.CompressionCodec{"zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(), "plain": kgo.NoCompression()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, 3, Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
			r.memory.SetLimit(40 << 20) // 20 MiB for large batches
			c := r.compressingClient(codec)
			const size = 12 << 20
			r.send(c, &kgo.Record{Partition: 0, Value: []byte("v0")})
			r.send(c, &kgo.Record{Partition: 0, Value: paddedValue(1, size)})
			for i := range 3 {
				r.send(c, &kgo.Record{Partition: 1, Value: paddedValue(i, size)})
			}
			stuck := r.startReader(Spec{Partition: 0}, true)
			r.eventually("a large batch that waits for its consumer", func() (bool, any) {
				return r.memory.Used() > size, r.memory.Used()
			})
			fine := r.startReader(Spec{Partition: 2}, false)
			next := r.startReader(Spec{Partition: 1}, false)
			r.produce(2, 0, 10)
			r.waitForRecords(fine, 0, 10)
			r.eventually("the batches of the other partition", func() (bool, any) {
				got, _, err := next.seen()
				return len(got) == 3, fmt.Sprint(trimZeros(got), err, next.LastError())
			})
			close(stuck.gate)
			r.eventually("the batch that was dropped", func() (bool, any) {
				got, _, err := stuck.seen()
				return len(got) == 2 && trimZeros(got)[1] == "1=v1", fmt.Sprint(trimZeros(got), err, stuck.LastError())
			})
		})
	}
}

// TestPrefetchedLargeBatchGivesWay: a large batch that was fetched ahead, after records that the
// consumer has begun, is also dropped when another one waits for the memory.
func TestPrefetchedLargeBatchGivesWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 2, Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetLimit(40 << 20) // 20 MiB for large batches
	r.produce(0, 0, 200)
	c := r.compressingClient(kgo.ZstdCompression())
	const size = 12 << 20
	r.send(c, &kgo.Record{Partition: 0, Value: paddedValue(200, size)})
	r.send(c, &kgo.Record{Partition: 1, Value: paddedValue(0, size)})
	stuck := r.startReader(Spec{Partition: 0}, true) // with 100 of the 200 records
	r.eventually("a large batch after other records", func() (bool, any) {
		return r.memory.Used() > size, r.memory.Used()
	})
	next := r.startReader(Spec{Partition: 1}, false)
	r.eventually("the batch of the other partition", func() (bool, any) {
		got, _, err := next.seen()
		return len(got) == 1, fmt.Sprint(trimZeros(got), err, next.LastError())
	})
	close(stuck.gate)
	r.eventually("all records", func() (bool, any) {
		got, _, err := stuck.seen()
		return len(got) == 201 && trimZeros(got)[200] == "200=v200", fmt.Sprint(len(got), err, stuck.LastError())
	})
}

// TestTooLargeBatchStopsOnlyItsConsumer: other consumers continue. So does this one once the limit is
// raised while the fetcher runs.
func TestTooLargeBatchStopsOnlyItsConsumer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetMaxBatch(8 << 20)
	r.send(r.compressingClient(kgo.ZstdCompression()), &kgo.Record{Value: paddedValue(0, 140<<20)})
	over, fine := r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)
	r.waitForError(over, "read t/0 at offset 0: record batch has 14680")
	r.waitForError(over, "more than limits.max_batch (8388608)")
	r.produce(1, 0, 100)
	r.waitForRecords(fine, 0, 100)
	if fine.LastError() != nil {
		t.Errorf("the other consumer fails: %v", fine.LastError())
	}
	r.memory.SetMaxBatch(256 << 20)
	r.eventually("the batch of 140 MiB", func() (bool, any) {
		got, _, _ := over.seen()
		return len(got) == 1 && len(got[0]) > 140<<20, over.LastError()
	})
	r.waitForRecovery(over)
}

// TestLongWaitForMemoryIsReported: the error of a batch that waits for long names the cause, the wait
// is not a stall, and the batch is read once there is memory.
func TestLongWaitForMemoryIsReported(t *testing.T) {
	defer func(d time.Duration) { largePatience = d }(largePatience)
	largePatience = 100 * time.Millisecond
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetLimit(40 << 20)
	if !r.memory.Acquire("test", 20<<20) {
		t.Fatal("the memory cannot be acquired")
	}
	r.send(r.compressingClient(kgo.ZstdCompression()), &kgo.Record{Value: paddedValue(0, 12<<20)})
	late, fine := r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)
	r.waitForError(late, "read t/0 at offset 0: waiting for memory: record batch needs 1258")
	r.waitForError(late, "and other large batches use 20971520 of 20971520 bytes; raise the memory limit if this persists")
	r.produce(1, 0, 100)
	r.waitForRecords(fine, 0, 100)
	r.eventually("progress", func() (bool, any) {
		p := late.Progress().LastEvent
		return time.Since(p) < time.Second, p
	})
	r.memory.Release(20 << 20)
	r.eventually("the batch", func() (bool, any) {
		got, _, _ := late.seen()
		return len(got) == 1, late.LastError()
	})
	r.waitForRecovery(late)
}

// TestWaitForMemoryRestartsAfterRecords: the wait of a batch begins when the batch before it has
// arrived.
func TestWaitForMemoryRestartsAfterRecords(t *testing.T) {
	r := newRig(t, 1, 1, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond})
	r.produce(0, 0, 1)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 1)
	var later callbacks
	now, s := time.Now(), rd.Subscription
	r.fetcher.mu.Lock()
	s.waitForMemory(1<<20, now, &later)
	now = now.Add(largePatience + time.Second)
	s.accept(&kmsg.FetchResponseTopicPartition{HighWatermark: 9}, &batch.Content{Next: s.cursor.FetchOffset + 1, Deferred: true}, batch.NewFrame(1), now, &later)
	s.waitForMemory(1<<20, now.Add(time.Second), &later)
	r.fetcher.mu.Unlock()
	if err := rd.LastError(); err != nil {
		t.Errorf("after a second, the error is %v", err)
	}
}

// TestFetchersShareMemoryLimit: all fetchers together use a quarter of the limit, also after another
// one has started.
func TestFetchersShareMemoryLimit(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.memory.SetLimit(8 << 20)
	budgets := func(want int64, fetchers ...*Fetcher) {
		t.Helper()
		r.eventually(fmt.Sprint("budgets of ", want), func() (bool, any) {
			var seen []budget
			ok := true
			for _, f := range fetchers {
				f.mu.Lock()
				ok = ok && f.budget.limit == want && f.budget.grant == want/4
				seen = append(seen, f.budget)
				f.mu.Unlock()
			}
			return ok, seen
		})
	}
	r.startReader(Spec{}, false)
	budgets(2<<20, r.fetcher)
	first := r.fetcher
	r.fetcher = r.start(smallSettings)
	rd := r.startReader(Spec{}, false)
	budgets(1<<20, first, r.fetcher)
	r.produce(0, 0, 100)
	r.waitForRecords(rd, 0, 100)
}
