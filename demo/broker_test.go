package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/wait"
)

const anyPort = "127.0.0.1:0"

func testBroker(t *testing.T) *broker {
	t.Helper()
	b, err := startBroker(anyPort, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func testClient(t *testing.T, b *broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestGeneratedRecordsCanBeRead(t *testing.T) {
	b := testBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait.Timeout)
	defer cancel()
	generated := make(chan error, 1)
	go func() { generated <- generate(ctx, b.addr, 1000) }()

	client := testClient(t, b, kgo.ConsumeTopics("orders", "payments", "audit"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	count := make(map[string]int)
	partitions := make(map[string]map[int32]bool)
	for count["orders"] < 300 || count["payments"] < 100 || count["audit"] < 20 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v, after reading %v", err, count)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			count[r.Topic]++
			if partitions[r.Topic] == nil {
				partitions[r.Topic] = make(map[int32]bool)
			}
			partitions[r.Topic][r.Partition] = true
			var value struct{ At string }
			if err := json.Unmarshal(r.Value, &value); err != nil || value.At == "" {
				t.Errorf("%s: value %s: %v", r.Topic, r.Value, err)
			}
		})
	}
	for topic, want := range topics {
		if got := len(partitions[topic]); got != int(want) {
			t.Errorf("records in %d partitions of %s, want %d", got, topic, want)
		}
	}
	cancel()
	if err := <-generated; err != nil {
		t.Error(err)
	}
}

func TestTenRecordsAreSixOrdersThreePaymentsOneEvent(t *testing.T) {
	count := make(map[string]int)
	orders := make(map[string]bool)
	for n := range int64(100) {
		r := record(1000, n)
		count[r.Topic]++
		var value struct {
			OrderID string `json:"order_id"`
			Object  string
		}
		if err := json.Unmarshal(r.Value, &value); err != nil {
			t.Fatal(err)
		}
		switch r.Topic {
		case "orders":
			orders[value.OrderID] = true
		case "payments":
			if !orders[value.OrderID] || string(r.Key) != value.OrderID {
				t.Errorf("key %s: payment of an order that was not made: %s", r.Key, r.Value)
			}
		case "audit":
			if !orders[value.Object] || r.Key != nil {
				t.Errorf("event about an order that was not made: %s", r.Value)
			}
		}
	}
	if count["orders"] != 60 || count["payments"] != 30 || count["audit"] != 10 || len(orders) != 60 {
		t.Errorf("%d orders among %v", len(orders), count)
	}
}

func TestBrokerUsesAFreePortIfItsOwnIsInUse(t *testing.T) {
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	b, err := startBroker(taken, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.addr == taken {
		t.Errorf("broker on %s, which is taken", b.addr)
	}
	if err := testClient(t, b).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMemoryOfTheBrokerIsBounded(t *testing.T) {
	const written, bound = 64 << 20, 24 << 20
	b := testBroker(t)
	before := heap()
	produce(t, b, written)
	wait.For(t, wait.Timeout, "old records to go", func() error {
		if grown := heap() - before; grown > bound {
			return fmt.Errorf("%d MiB of %d are still in memory, more than %d", grown>>20, written>>20, bound>>20)
		}
		return nil
	})
	if info := b.PartitionInfo("audit", 0); info.LogStartOffset == 0 || info.LogStartOffset == info.HighWatermark {
		t.Errorf("offsets from %d to %d are left", info.LogStartOffset, info.HighWatermark)
	}
}

// produce writes incompressible values of size bytes in all to the topic with one partition.
func produce(t *testing.T, b *broker, size int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range size >> 19 {
		value := make([]byte, 1<<19)
		rand.Read(value)
		r := &kgo.Record{Topic: "audit", Value: value}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // the first only moves what lies in pools aside
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
