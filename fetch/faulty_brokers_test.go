package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/leader"
)

// A randomReader is a consumer that pauses, rewinds, closes and subscribes again at random.
type randomReader struct {
	*faultyCluster
	spec   Spec
	sub    *Subscription
	at     int64                  // the next offset
	epochs map[int64]leader.Epoch // of the record at an offset
	jumps  int
}

// step does one thing, and reports whether the consumer has all records.
func (r *randomReader) step(ctx context.Context, end int64) (done bool) {
	if r.sub == nil {
		spec := r.spec
		spec.Offset = r.at
		spec.Epoch = r.epochs[r.at-1]
		spec.Paused = rand.N(8) == 0
		r.sub = r.fetcher.Subscribe(spec)
	}
	switch calm := r.calm.Load(); {
	case calm || rand.N(2) == 0:
		r.sub.Resume()
	case rand.N(6) == 0:
		r.sub.Pause()
	case rand.N(20) == 0: // the sink is slow
		<-time.After(rand.N(300 * time.Millisecond))
	case rand.N(6) == 0 && r.at > 0:
		r.at = max(r.at-rand.Int64N(20), 0)
		r.sub.Rewind(r.at, r.epochs[r.at-1])
	case rand.N(15) == 0:
		r.sub.Close()
		r.sub = nil
		return false
	}
	wait, cancel := context.WithTimeout(ctx, rand.N(200*time.Millisecond))
	defer cancel()
	if r.sub.Wait(wait) != nil {
		return r.at == end // it had all records before the faults ended
	}
	left := 1 + rand.N(40)
	next, ok, err := r.sub.Take(func(rec *batch.Record) bool {
		switch {
		case rec.Offset != r.at:
			r.Errorf("got offset %d of %d/%d, want %d", rec.Offset, r.spec.Partition, r.spec.MaxBytes, r.at)
		}
		if want := fmt.Sprint("v", rec.Offset); len(rec.Value) < len(want) || string(rec.Value[:len(want)]) != want {
			r.Errorf("record %d of %d is %.20q", rec.Offset, r.spec.Partition, rec.Value)
		}
		if left--; left == 0 && rand.N(2) == 0 {
			rec.PutBack()
			return false
		}
		r.epochs[rec.Offset], r.at = rec.Epoch, rec.Offset+1
		return left > 0
	})
	switch {
	case err != nil:
		r.Errorf("Take: %v", err)
	case ok && r.sub.WasReset():
		r.at = next
		r.jumps++
	case ok && next != r.at:
		r.Errorf("the position of %d is %d, want %d", r.spec.Partition, next, r.at)
	}
	return r.at == end
}

// A faultyCluster cluster moves leaders, closes connections, returns errors and invalid responses, and claims
// that logs were truncated.
type faultyCluster struct {
	*rig
	calm      atomic.Bool
	mu        sync.Mutex
	diverging map[int32]int64
}

func (w *faultyCluster) start() {
	w.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		if w.calm.Load() || len(req.Topics) == 0 {
			return nil, nil, false
		}
		resp := errorResponse(req, sarama.ErrNoError).(*kmsg.FetchResponse)
		p := &resp.Topics[0].Partitions[rand.N(len(resp.Topics[0].Partitions))]
		var asked kmsg.FetchRequestTopicPartition
		for _, a := range req.Topics[0].Partitions {
			if a.Partition == p.Partition {
				asked = a
			}
		}
		switch rand.N(24) {
		case 0:
			return nil, errHangUp, true
		case 1:
			codes := []sarama.KError{
				sarama.ErrNotLeaderForPartition, sarama.ErrUnknown, sarama.ErrOffsetOutOfRange, sarama.ErrFencedLeaderEpoch,
				sarama.ErrUnknownLeaderEpoch, sarama.ErrKafkaStorageError, sarama.ErrUnknownTopicOrPartition,
			}
			return errorResponse(req, codes[rand.N(len(codes))]), nil, true
		case 2: // a batch that is cut off, one with a wrong checksum, and one of other offsets
			b := batchOf(asked.FetchOffset, "a", "b")
			p.HighWatermark = asked.FetchOffset + 10
			switch rand.N(3) {
			case 0:
				b = b[:len(b)-1]
			case 1:
				b[len(b)-1] ^= 1
			default:
				b = batchOf(asked.FetchOffset-2, "a", "b")
			}
			p.RecordBatches = b
			return resp, nil, true
		case 3: // a response without the partitions
			resp.Topics[0].Partitions = resp.Topics[0].Partitions[:0]
			return resp, nil, true
		case 4: // an epoch that ends after the position
			if asked.LastFetchedEpoch >= 0 {
				p.HighWatermark = asked.FetchOffset + 1
				p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = asked.LastFetchedEpoch, asked.FetchOffset+3
				return resp, nil, true
			}
		case 5:
			if asked.LastFetchedEpoch >= 0 && asked.FetchOffset > 20 {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.diverging[p.Partition] = asked.FetchOffset - 1 - rand.Int64N(15)
				p.HighWatermark = asked.FetchOffset + 1
				p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = asked.LastFetchedEpoch, w.diverging[p.Partition]
				return resp, nil, true
			}
		case 6:
			resp.ThrottleMillis, resp.Topics = 20, nil
			return resp, nil, true
		case 7:
			resp.ErrorCode = int16(sarama.ErrUnknown)
			return resp, nil, true
		}
		return nil, nil, false
	})
	w.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		w.mu.Lock()
		defer w.mu.Unlock()
		resp := kreq.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = "t"
		for _, p := range kreq.(*kmsg.OffsetForLeaderEpochRequest).Topics[0].Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, p.LeaderEpoch, 1<<40
			if at, ok := w.diverging[p.Partition]; ok {
				delete(w.diverging, p.Partition)
				rp.EndOffset = at
			} else if !w.calm.Load() && rand.N(4) == 0 { // an older broker claims it here
				w.diverging[p.Partition] = rand.Int64N(100)
				rp.EndOffset = w.diverging[p.Partition]
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
}

// TestConsumersGetEachRecordWithFaultyBrokers: with little memory, large batches, faulty brokers and restless consumers, each consumer
// gets each record in order from its position on, and all memory is released.
func TestConsumersGetEachRecordWithFaultyBrokers(t *testing.T) {
	t.Parallel()
	for _, version := range []sarama.KafkaVersion{sarama.MaxVersion, sarama.V2_6_0_0} {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			storm(t, version)
		})
	}
}

func storm(t *testing.T, version sarama.KafkaVersion) {
	const partitions, each = 4, 150
	r := newRig(t, 2, partitions, Settings{Lanes: 2, MaxBytes: 512 << 10, MaxWait: 50 * time.Millisecond}, largeMessages)
	r.useVersion(version)
	r.memory.SetLimit(24 << 20)
	w := &faultyCluster{rig: r, diverging: make(map[int32]int64)}
	w.start()
	ctx, cancel := contextOf(t)
	var running sync.WaitGroup
	running.Go(func() {
		z, plain := r.compressingClient(kgo.ZstdCompression()), r.compressingClient(kgo.NoCompression())
		for i := range each {
			for p := range int32(partitions) {
				c, size := plain, rand.N(2000)
				switch rand.N(40) {
				case 0:
					c, size = z, 5<<20+rand.N(3<<20)
				case 1:
					size = 1 << 20
				case 2:
					c = z
				}
				if err := c.ProduceSync(ctx, &kgo.Record{Partition: p, Value: paddedValue(i, size)}).FirstErr(); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			if rand.N(20) == 0 {
				if err := r.cluster.MoveTopicPartition("t", rand.N[int32](partitions), rand.N[int32](2)); err != nil {
					t.Error(err)
				}
			}
			if rand.N(50) == 0 {
				r.memory.SetLimit(20<<20 + rand.N[int64](12<<20))
				r.fetcher.Update(Settings{Lanes: 1 + rand.N(3), MaxBytes: 64<<10 + rand.N(1<<20), MaxWait: 50 * time.Millisecond})
			}
		}
		<-time.After(time.Second)
		w.calm.Store(true)
	})
	var readers []*randomReader
	var left atomic.Int32
	for i := range 3 * partitions {
		rd := &randomReader{faultyCluster: w, epochs: make(map[int64]leader.Epoch), spec: Spec{
			Topic: "t", Partition: int32(i % partitions), MaxBytes: 256 << 10, OnOutOfRange: partition.Earliest, ReadCommitted: i%2 == 0,
		}}
		readers = append(readers, rd)
		left.Add(1)
		running.Go(func() {
			for ctx.Err() == nil {
				if rd.step(ctx, each) && w.calm.Load() {
					left.Add(-1)
					break
				}
			}
			if rd.sub != nil {
				rd.sub.Close()
			}
		})
	}
	deadline := time.Now().Add(3 * patience)
	for left.Load() > 0 && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond)
	}
	if n := left.Load(); n > 0 {
		t.Errorf("%d consumers do not have all records", n)
		for _, rd := range readers {
			if s := rd.sub; s != nil {
				t.Logf("%d at %d: %+v, %v", rd.spec.Partition, rd.at, s.Progress(), s.LastError())
			}
		}
	}
	cancel()
	running.Wait()
	jumps := 0
	for _, rd := range readers {
		jumps += rd.jumps
	}
	t.Log(jumps, "jumps")
	r.eventually("the release of all memory", func() (bool, any) {
		f := r.fetcher
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.budget.kept == 0 && f.budget.promised == 0 && r.memory.Used() == 0, fmt.Sprint(f.budget, r.memory.Used())
	})
}

// batchOf returns a record batch with values from the offset base on.
func batchOf(base int64, values ...string) []byte {
	var records []byte
	for i, v := range values {
		r := kmsg.Record{OffsetDelta: int32(i), Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // of one byte
		records = r.AppendTo(records)
	}
	n := int32(len(values))
	b := (&kmsg.RecordBatch{FirstOffset: base, Magic: 2, LastOffsetDelta: n - 1, NumRecords: n, Records: records}).AppendTo(nil)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
