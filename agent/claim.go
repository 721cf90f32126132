package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/sink"
)

// How much a claim takes at once before it writes.
const (
	batchRecords = 2048
	batchBytes   = 1 << 20
)

// ConsumeClaim is the hot path of one partition: record → sink. It returns only
// when the generation ends, for a claim that returns ends the generation of all
// partitions and rebalances the group; so a sink error is retried in place.
func (s *session) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	p := s.partitions[sink.TopicPartition{Topic: claim.Topic(), Partition: claim.Partition()}]
	if s.gate.IsShut() {
		// PauseAll reached only the partitions held at its time.
		if c, ok := claim.(interface{ Pause() }); ok {
			c.Pause()
		}
	}
	// One batch is filled while the other is written, so that a slow write does
	// not at once hold up sarama's fetch of all partitions.
	ctx := s.kafka.Context()
	full := make(chan *batch)
	var writer sync.WaitGroup
	writer.Go(func() { s.write(ctx, p, full) })
	defer writer.Wait()
	defer close(full)
	for {
		b := nextBatch(ctx, claim.Messages())
		if b == nil {
			return nil
		}
		p.highWater.Store(claim.HighWaterMarkOffset())
		full <- b
	}
}

// write stores batch after batch. Once one cannot be stored, because the
// generation ends, those after it are dropped: Kafka brings them again.
func (s *session) write(ctx context.Context, p *partition, full <-chan *batch) {
	good := true
	for b := range full {
		good = good && s.store(ctx, p, b)
		b.free()
	}
}

// store brings a batch into the sink, however often it takes; false if the
// generation ended first. While it waits, nothing more is fetched for long:
// the claim's channel fills up.
func (s *session) store(ctx context.Context, p *partition, b *batch) bool {
	var wait backoff
	for failed := false; ; {
		if !s.gate.Enter(ctx) {
			return false
		}
		err := s.sink.Write(ctx, b.recs)
		if err == nil {
			p.accepted.Store(b.next)
			s.account(b)
		}
		s.gate.Leave()
		switch {
		case err == nil:
			if failed {
				s.report(writeOrigin(p), nil)
			}
			return true
		case ctx.Err() != nil:
			return false
		case errors.Is(err, sink.ErrLost):
			s.abandon(sinkError{err})
			return false
		}
		failed = true
		s.stats.sinkErrors.Add(1)
		s.report(writeOrigin(p), err)
		if !wait.wait(ctx) {
			return false
		}
	}
}

func writeOrigin(p *partition) string { return fmt.Sprintf("write %s/%d", p.Topic, p.Partition) }

// account counts an accepted batch and wakes the flusher where it is due.
func (s *session) account(b *batch) {
	s.stats.records.Add(int64(len(b.recs)))
	s.stats.bytes.Add(b.bytes)
	s.stats.lastRecord.Store(time.Now().UnixNano())
	before := s.unflushed.Add(b.bytes) - b.bytes
	if before == 0 {
		signal(s.dirty)
	}
	if limit := int64(s.flushSettings().Bytes); before < limit && before+b.bytes >= limit {
		signal(s.kick)
	}
}

// A batch is what a claim takes from its channel at once.
type batch struct {
	recs    []sink.Record
	headers []sink.Header
	next    int64 // offset after the last record
	bytes   int64 // of keys and values
}

// spare holds batches between two uses, for all consumers, so that no record
// costs an allocation of ours and an idle partition holds nothing. A sync.Pool
// is emptied by each garbage collection, which under load is many times a
// second; this holds 16 MiB at most.
var spare = make(chan *batch, 64)

func newBatch() *batch {
	select {
	case b := <-spare:
		return b
	default:
		return new(batch)
	}
}

// nextBatch blocks for one record, then takes what is there; nil once the claim
// is closed or ctx has ended.
func nextBatch(ctx context.Context, messages <-chan *sarama.ConsumerMessage) *batch {
	select {
	case m, ok := <-messages:
		if !ok {
			return nil
		}
		b := newBatch()
		b.add(m)
		b.drain(messages)
		return b
	case <-ctx.Done():
		return nil
	}
}

func (b *batch) drain(messages <-chan *sarama.ConsumerMessage) {
	for len(b.recs) < batchRecords && b.bytes < batchBytes {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			b.add(m)
		default:
			return
		}
	}
}

func (b *batch) add(m *sarama.ConsumerMessage) {
	first := len(b.headers)
	for _, h := range m.Headers {
		b.headers = append(b.headers, sink.Header{Key: h.Key, Value: h.Value})
	}
	b.recs = append(b.recs, sink.Record{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Time: m.Timestamp,
		Key: m.Key, Value: m.Value, Headers: b.headers[first:len(b.headers):len(b.headers)],
	})
	b.next = m.Offset + 1
	b.bytes += int64(len(m.Key) + len(m.Value))
}

// free gives the batch back. It lets go of the records: each would keep the
// whole fetch that it came with in memory.
func (b *batch) free() {
	clear(b.recs)
	clear(b.headers)
	b.recs, b.headers, b.bytes = b.recs[:0], b.headers[:0], 0
	select {
	case spare <- b:
	default:
	}
}
