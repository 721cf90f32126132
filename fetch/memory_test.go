package fetch

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/limits"
)

// bomb is a batch of one record with a value of zeros, which zstd makes very small.
func bomb(base int64, size int) []byte {
	r := kmsg.Record{Value: make([]byte, size)}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	records := r.AppendTo(nil)
	encoder, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	const codecZstd = 4
	return batchSpec{base: base, raw: encoder.EncodeAll(records, nil), count: 1, attributes: codecZstd}.bytes()
}

func limited(limit int64) *limits.Memory {
	m := new(limits.Memory)
	m.SetLimit(limit)
	return m
}

// TestDecodeWithinTheGrant: the batches of an answer are decompressed as long as they fit
// into what the request was granted. The first batch always is; what does not fit is
// fetched again.
func TestDecodeWithinTheGrant(t *testing.T) {
	const size, grant = 10 << 20, 32 << 20
	var raw []byte
	for i := range int64(20) {
		raw = append(raw, bomb(i, size)...)
	}
	p := &kmsg.FetchResponseTopicPartition{RecordBatches: raw}
	fr, ro := newFrame(1), room{memory: limited(64 << 20), left: grant}
	first := decode(fr, &ro, p, 0, sarama.ReadCommitted)
	if first.next != 3 || !first.held || first.err != nil || first.need != 0 || fr.large != 0 || fr.size > grant {
		t.Errorf("next is %d, held %v, error %v, %d bytes and %d for large batches", first.next, first.held, first.err, fr.size, fr.large)
	}
	if ratio := first.size / first.used; ratio < 500 {
		t.Errorf("the ratio is %d", ratio)
	}
	// Another partition of the answer gets what is left, which is nothing.
	second := decode(fr, &ro, p, 0, sarama.ReadCommitted)
	if second.next != 0 || !second.held || second.err != nil {
		t.Errorf("next is %d, held %v, error %v", second.next, second.held, second.err)
	}
	// A batch that needs no memory is read nevertheless.
	plain := &kmsg.FetchResponseTopicPartition{RecordBatches: batchSpec{base: 0, values: []string{"a"}}.bytes()}
	if c := decode(fr, &ro, plain, 0, sarama.ReadCommitted); c.next != 1 || c.held {
		t.Errorf("next is %d, held %v", c.next, c.held)
	}
	fr.release()
	// The first batch takes memory for large batches.
	fr, ro = newFrame(1), room{memory: limited(64 << 20), left: 1 << 20}
	c := decode(fr, &ro, p, 0, sarama.ReadCommitted)
	if used := ro.memory.Used(); c.next != 1 || !c.held || used < size || used > size+100 || fr.large != used {
		t.Errorf("next is %d, held %v, %d bytes for large batches", c.next, c.held, used)
	}
	// The next answer does not get it.
	other := room{memory: ro.memory, left: 1 << 20}
	if !other.memory.Acquire("test", 15<<20) {
		t.Fatal("there is too little memory")
	}
	if c := decode(newFrame(1), &other, p, 0, sarama.ReadCommitted); c.next != 0 || !c.held || c.need < size || c.err != nil {
		t.Errorf("next is %d, held %v, %d needed, error %v", c.next, c.held, c.need, c.err)
	}
	fr.release()
	if used := ro.memory.Used(); used != 15<<20 {
		t.Errorf("%d bytes are still used", used)
	}
}

// TestTooLargeBatches: the error has the size of the batch and both next steps.
func TestTooLargeBatches(t *testing.T) {
	p := &kmsg.FetchResponseTopicPartition{RecordBatches: append(batchSpec{base: 4, values: []string{"a"}}.bytes(), bomb(5, 20<<20)...)}
	for _, tt := range []struct {
		limit, batch int64
		want         string
	}{
		{0, 10 << 20, "record batch has 20971533 bytes, more than limits.max_batch (10485760): raise limits.max_batch; to skip it, stop the consumer and reset the group's offset to 6"},
		{32 << 20, 0, "record batch needs 20971533 bytes of memory, and the memory limit of 33554432 bytes allows 16777216 for a batch: raise the memory limit (GOMEMLIMIT, or that of the container); to skip it, stop the consumer and reset the group's offset to 6"},
		{64 << 20, 20 << 20, "record batch has 20971533 bytes, more than limits.max_batch (20971520): raise"},
		{64 << 20, 21 << 20, ""},
	} {
		ro := room{memory: limited(tt.limit), left: 1 << 20}
		ro.memory.SetMaxBatch(tt.batch)
		fr := newFrame(1)
		c := decode(fr, &ro, p, 5, sarama.ReadCommitted)
		if tt.want == "" && (c.err != nil || c.next != 6) || tt.want != "" && (c.next != 5 || c.err == nil || !strings.HasPrefix(c.err.Error(), tt.want)) {
			t.Errorf("limit %d, max_batch %d: next %d, %v; want %q", tt.limit, tt.batch, c.next, c.err, tt.want)
		}
		// Behind other records it is fetched again.
		ro.left, ro.fed = 1<<20, false
		if c := decode(fr, &ro, p, 4, sarama.ReadCommitted); c.next != 5 || !c.held || c.err != nil {
			t.Errorf("limit %d, max_batch %d, behind another batch: next %d, held %v, error %v", tt.limit, tt.batch, c.next, c.held, c.err)
		}
		fr.release()
	}
}

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
	s.accept(&kmsg.FetchResponseTopicPartition{HighWatermark: 9}, &content{next: s.pos + 1, held: true}, newFrame(1), now, &told)
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

// TestAfterBatch finds the batch that makes up a response.
func TestAfterBatch(t *testing.T) {
	b := batchSpec{base: 41, values: []string{"a", "b"}, raw: make([]byte, 8000), count: 2, last: 1}.bytes()
	resp := append(bytes.Repeat([]byte{0, 2}, 30), b...)
	if got := afterBatch(resp[:4096], int64(len(resp)+20)); got != 43 {
		t.Errorf("the offset after the batch is %d, want 43", got)
	}
	if got := afterBatch(make([]byte, 4096), 3<<20); got != -1 {
		t.Errorf("the offset after nothing is %d", got)
	}
}

// TestBatchErrorNamesTheSettingToRaise: the memory limit where that is what bounds a batch,
// otherwise limits.max_batch.
func TestBatchErrorNamesTheSettingToRaise(t *testing.T) {
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
		err := &batchError{sizeError{size: 99 << 20, total: c.total}, 7, m}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, want %q", name, err, c.want)
		}
	}
}
