package fetch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
)

// compressing is a client whose batches hold one record each.
func (r *rig) compressing(codec kgo.CompressionCodec) *kgo.Client {
	return r.client(kgo.ProducerBatchMaxBytes(200<<20), kgo.BrokerMaxWriteBytes(300<<20), kgo.ProducerBatchCompression(codec),
		kgo.MaxBufferedRecords(1), kgo.ProducerLinger(0))
}

func padded(n, size int) []byte { return append(fmt.Appendf(nil, "v%d", n), make([]byte, size)...) }

// firsts are the values without their zeros.
func firsts(got []string) (short []string) {
	for _, g := range got {
		short = append(short, strings.TrimRight(g, "\x00"))
	}
	return short
}

// TestCompressibleBatchesStayInTheBudget: hundreds of MiB of batches that are a few KiB on
// the wire, in several partitions, are read with the memory that the settings allow.
func TestCompressibleBatchesStayInTheBudget(t *testing.T) {
	r := newRig(t, 1, 4, Settings{Lanes: 2, MaxBytes: 4 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	c := r.compressing(kgo.ZstdCompression())
	const each, size = 60, 1 << 20
	for p := range int32(4) {
		for i := range each {
			r.send(c, &kgo.Record{Partition: p, Value: padded(i, size)})
		}
	}
	var readers []*reader
	for p := range int32(4) {
		readers = append(readers, r.read(Spec{Partition: p, MaxBytes: 1 << 20}, false))
	}
	for _, rd := range readers {
		r.eventually("all records", func() (bool, any) {
			got, _, err := rd.seen()
			return len(got) == each, fmt.Sprint(len(got), err, rd.LastError())
		})
		got, _, _ := rd.seen()
		for i, g := range firsts(got) {
			if g != fmt.Sprintf("%d=v%d", i, i) {
				t.Fatalf("record %d is %s", i, g)
			}
		}
	}
	r.fetcher.mu.Lock()
	defer r.fetcher.mu.Unlock()
	if b := r.fetcher.budget; b.most > b.limit+b.limit/4 || b.limit != 8<<20 { // buffers are up to a quarter larger than what is in them
		t.Errorf("%d bytes of %d were used", b.most, b.limit)
	}
}

// TestLargeBatchesTakeTurns: of two batches for which there is memory once, the second is
// read although the consumer of the first does not read it, compressed or not.
func TestLargeBatchesTakeTurns(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{"zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(), "plain": kgo.NoCompression()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, 3, Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
			r.memory.SetLimit(40 << 20) // 20 MiB for large batches
			c := r.compressing(codec)
			const size = 12 << 20
			r.send(c, &kgo.Record{Partition: 0, Value: []byte("v0")})
			r.send(c, &kgo.Record{Partition: 0, Value: padded(1, size)})
			for i := range 3 {
				r.send(c, &kgo.Record{Partition: 1, Value: padded(i, size)})
			}
			stuck := r.read(Spec{Partition: 0}, true)
			r.eventually("a large batch that waits for its consumer", func() (bool, any) {
				return r.memory.Used() > size, r.memory.Used()
			})
			fine := r.read(Spec{Partition: 2}, false)
			next := r.read(Spec{Partition: 1}, false)
			r.produce(2, 0, 10)
			r.wants(fine, 0, 10)
			r.eventually("the batches of the other partition", func() (bool, any) {
				got, _, err := next.seen()
				return len(got) == 3, fmt.Sprint(firsts(got), err, next.LastError())
			})
			close(stuck.gate)
			r.eventually("the batch that was dropped", func() (bool, any) {
				got, _, err := stuck.seen()
				return len(got) == 2 && firsts(got)[1] == "1=v1", fmt.Sprint(firsts(got), err, stuck.LastError())
			})
		})
	}
}

// TestLargeBatchesBehindOthersTakeTurns: a large batch that was fetched ahead, behind records
// that the consumer has begun, is dropped as well when another one waits for the memory.
func TestLargeBatchesBehindOthersTakeTurns(t *testing.T) {
	r := newRig(t, 1, 2, Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetLimit(40 << 20) // 20 MiB for large batches
	r.produce(0, 0, 200)
	c := r.compressing(kgo.ZstdCompression())
	const size = 12 << 20
	r.send(c, &kgo.Record{Partition: 0, Value: padded(200, size)})
	r.send(c, &kgo.Record{Partition: 1, Value: padded(0, size)})
	stuck := r.read(Spec{Partition: 0}, true) // with 100 of the 200 records
	r.eventually("a large batch behind others", func() (bool, any) {
		return r.memory.Used() > size, r.memory.Used()
	})
	next := r.read(Spec{Partition: 1}, false)
	r.eventually("the batch of the other partition", func() (bool, any) {
		got, _, err := next.seen()
		return len(got) == 1, fmt.Sprint(firsts(got), err, next.LastError())
	})
	close(stuck.gate)
	r.eventually("all records", func() (bool, any) {
		got, _, err := stuck.seen()
		return len(got) == 201 && firsts(got)[200] == "200=v200", fmt.Sprint(len(got), err, stuck.LastError())
	})
}

// TestTooLargeBatchConcernsItsConsumer: the others continue, and so does it with a higher
// limit, which applies to a running fetcher.
func TestTooLargeBatchConcernsItsConsumer(t *testing.T) {
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetMaxBatch(8 << 20)
	r.send(r.compressing(kgo.ZstdCompression()), &kgo.Record{Value: padded(0, 140<<20)})
	over, fine := r.read(Spec{}, false), r.read(Spec{Partition: 1}, false)
	r.shows(over, "read t/0 at offset 0: record batch has 14680")
	r.shows(over, "more than limits.max_batch (8388608)")
	r.produce(1, 0, 100)
	r.wants(fine, 0, 100)
	if fine.LastError() != nil {
		t.Errorf("the neighbour fails: %v", fine.LastError())
	}
	r.memory.SetMaxBatch(256 << 20)
	r.eventually("the batch of 140 MiB", func() (bool, any) {
		got, _, _ := over.seen()
		return len(got) == 1 && len(got[0]) > 140<<20, over.LastError()
	})
	r.heals(over)
}

// TestMemoryInUseIsShown: the error of a batch that waits for long names the reason, the
// watchdog has nothing to report meanwhile, and the batch is read once there is memory.
func TestMemoryInUseIsShown(t *testing.T) {
	defer func(d time.Duration) { largePatience = d }(largePatience)
	largePatience = 100 * time.Millisecond
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	r.memory.SetLimit(40 << 20)
	if !r.memory.Acquire("test", 20<<20) {
		t.Fatal("there is too little memory")
	}
	r.send(r.compressing(kgo.ZstdCompression()), &kgo.Record{Value: padded(0, 12<<20)})
	late, fine := r.read(Spec{}, false), r.read(Spec{Partition: 1}, false)
	r.shows(late, "read t/0 at offset 0: waiting for memory: record batch needs 1258")
	r.shows(late, "and other large batches use 20971520 of 20971520 bytes; raise the memory limit if this persists")
	r.produce(1, 0, 100)
	r.wants(fine, 0, 100)
	r.eventually("progress for the watchdog", func() (bool, any) {
		p := late.Look().Progress
		return time.Since(p) < time.Second, p
	})
	r.memory.Release(20 << 20)
	r.eventually("the batch", func() (bool, any) {
		got, _, _ := late.seen()
		return len(got) == 1, late.LastError()
	})
	r.heals(late)
}

// TestWaitForMemoryEndsWithProgress: a batch that waits just begins to wait if the one
// before it was read a moment ago.
func TestWaitForMemoryEndsWithProgress(t *testing.T) {
	r := newRig(t, 1, 1, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond})
	r.produce(0, 0, 1)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 1)
	var told calls
	now, s := time.Now(), rd.Subscription
	r.fetcher.mu.Lock()
	s.lack(1<<20, now, &told)
	now = now.Add(largePatience + time.Second)
	s.accept(&kmsg.FetchResponseTopicPartition{HighWatermark: 9}, &batch.Content{Next: s.pos + 1, Deferred: true}, batch.NewFrame(1), now, &told)
	s.lack(1<<20, now.Add(time.Second), &told)
	r.fetcher.mu.Unlock()
	if err := rd.LastError(); err != nil {
		t.Errorf("after a second, the error is %v", err)
	}
}

// TestFetchersShareTheMemoryLimit: together they use a quarter of it, also when one comes
// later.
func TestFetchersShareTheMemoryLimit(t *testing.T) {
	r := newRig(t, 1, 1, small)
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
	r.read(Spec{}, false)
	budgets(2<<20, r.fetcher)
	first := r.fetcher
	r.fetcher = r.start(small)
	rd := r.read(Spec{}, false)
	budgets(1<<20, first, r.fetcher)
	r.produce(0, 0, 100)
	r.wants(rd, 0, 100)
}
