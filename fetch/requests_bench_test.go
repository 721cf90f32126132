package fetch

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/metadata"
	"kcagent/retry"
)

// bench makes a fetcher that does not run, with one broker that leads partitions
// partitions, each with readers consumers, that all wait for records and have none.
func bench(partitions, consumers int) (*Fetcher, *broker) {
	f := New(Options{Settings: Settings{Lanes: 2, MaxBytes: 16 << 20, MaxWait: time.Second}})
	meta := response(partitions)
	var subs []*Subscription
	for p := range partitions {
		for range consumers {
			subs = append(subs, f.Subscribe(Spec{Topic: "t", Partition: int32(p), MaxBytes: 1 << 20}))
		}
	}
	learn(f, meta)
	for _, s := range subs {
		s.reading, s.placed, s.highWater, s.stable = true, true, 0, 0
	}
	b := f.brokers[1]
	for i := range 2 {
		b.lanes = append(b.lanes, &lane{f: f, b: b, index: i, wake: retry.NewSignal()})
	}
	f.sizeBudget()
	return f, b
}

func learn(f *Fetcher, meta *sarama.MetadataResponse) {
	leaderLookup{f}.Learn(metadata.NewUpdate(meta))
}

func response(partitions int) *sarama.MetadataResponse {
	meta := &sarama.MetadataResponse{}
	meta.AddBroker("127.0.0.1:1", 1)
	for p := range partitions {
		meta.AddTopicPartition("t", int32(p), 1, nil, nil, nil, sarama.ErrNoError)
	}
	return meta
}

// BenchmarkPlan10000 is a wake-up of a lane that has nothing to request: all partitions are
// in a request, or were in one just now.
func BenchmarkPlan10000(b *testing.B) {
	_, broker := bench(10_000, 1)
	now := time.Now()
	broker.idleAt = [2]time.Time{now.Add(time.Hour), now.Add(time.Hour)}
	for b.Loop() {
		if j, _ := broker.lanes[0].next(now); j != nil {
			b.Fatal("there is something to ask")
		}
	}
}

// BenchmarkPlanOne10000 is the request for one partition that has come back, with the
// others in a request of another lane.
func BenchmarkPlanOne10000(b *testing.B) {
	_, broker := bench(10_000, 1)
	now := time.Now()
	j, _ := broker.lanes[0].next(now)
	if len(j.members()) != 10_000 {
		b.Fatal("not all are asked for")
	}
	one := j.members()[0]
	for b.Loop() {
		now = now.Add(time.Second / 2)
		broker.lanes[0].f.mu.Lock()
		one.current()
		broker.lanes[0].f.mu.Unlock()
		j, _ := broker.lanes[1].next(now)
		if j == nil || len(j.members()) != 1 {
			b.Fatal("it is not asked for")
		}
		broker.lanes[0].f.mu.Lock()
		j.done()
		broker.lanes[0].f.mu.Unlock()
	}
}

// BenchmarkPlanHot10000 is a request for as many as its memory allows of 10,000
// partitions with records.
func BenchmarkPlanHot10000(b *testing.B) {
	f, broker := bench(10_000, 1)
	for s := range f.subs {
		s.highWater, s.stable = 100, 100
	}
	now := time.Now()
	for b.Loop() {
		j, _ := broker.lanes[0].next(now)
		f.mu.Lock()
		for _, m := range j.members() {
			f.served++
			m.served = f.served
			m.current()
		}
		j.done()
		f.mu.Unlock()
	}
}

// BenchmarkLearn10000x5 takes in the metadata of 10,000 partitions with five consumers
// each.
func BenchmarkLearn10000x5(b *testing.B) {
	f, _ := bench(10_000, 5)
	meta := response(10_000)
	for b.Loop() {
		learn(f, meta)
	}
}

// BenchmarkClose10000 ends all consumers of 10,000 partitions, as a stop does.
func BenchmarkClose10000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		f, _ := bench(10_000, 1)
		b.StartTimer()
		for s := range f.subs {
			s.Close()
		}
	}
}
