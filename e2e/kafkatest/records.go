package kafkatest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A Load describes records to produce: Count to each of the partitions 0 to Partitions-1
// of Topic, numbered from First. In a topic without other records, the number of a record
// is its offset.
type Load struct {
	Topic      string
	Partitions int32
	First      int
	Count      int
	// Value returns the value of a record; nil stands for [Value].
	Value func(topic string, partition int32, seq int) []byte
}

// Value returns a value that identifies its record by topic, partition and number, such as
// orders/3/000000042.
func Value(topic string, partition int32, seq int) []byte {
	return fmt.Appendf(nil, "%s/%d/%09d", topic, partition, seq)
}

// Produce writes a load and returns when the cluster has acknowledged all of it.
func (c *Cluster) Produce(t testing.TB, l Load) {
	t.Helper()
	value := l.Value
	if value == nil {
		value = Value
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	var once sync.Once
	var first error
	for seq := l.First; seq < l.First+l.Count; seq++ {
		for p := range l.Partitions {
			r := &kgo.Record{Topic: l.Topic, Partition: p, Value: value(l.Topic, p, seq)}
			c.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					once.Do(func() { first = err })
				}
			})
		}
	}
	if err := c.client.Flush(ctx); err != nil {
		t.Fatalf("produce to %s: %v", l.Topic, err)
	}
	if first != nil {
		t.Fatalf("produce to %s: %v", l.Topic, first)
	}
}

// Read returns the records of each partition of a topic, from the first one to the end
// offset at the time of the call.
func (c *Cluster) Read(t testing.TB, topic string) map[int32][]*kgo.Record {
	t.Helper()
	ends := c.EndOffsets(t, topic)
	starts, left := make(map[int32]kgo.Offset), int64(0)
	for p, end := range ends {
		if starts[p] = kgo.NewOffset().AtStart(); end > 0 {
			left++
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		t.Fatalf("create kafka client: %v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	got := make(map[int32][]*kgo.Record)
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got[r.Partition] = append(got[r.Partition], r)
			if r.Offset == ends[r.Partition]-1 {
				left--
			}
		})
	}
	return got
}
