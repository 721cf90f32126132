package fetch

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/metadata"
	"kcagent/retry"
)

// newBenchFetcher returns a fetcher that does not run. One broker leads the partitions, each with some consumers
// that wait for records, and there are none.
func newBenchFetcher(partitions, consumers int) (*Fetcher, *broker) {
	f := New(Options{Settings: Settings{Lanes: 2, MaxBytes: 16 << 20, MaxWait: time.Second}})
	meta := metadataResponse(partitions)
	var subs []*Subscription
	for p := range partitions {
		for range consumers {
			subs = append(subs, f.Subscribe(Spec{Topic: "t", Partition: int32(p), MaxBytes: 1 << 20}))
		}
	}
	applyMetadata(f, meta)
	for _, s := range subs {
		s.reader.waiting, s.cursor.Confirmed, s.cursor.HighWater, s.cursor.LastStable = true, true, 0, 0
	}
	b := f.brokers[1]
	for i := range 2 {
		b.lanes = append(b.lanes, &lane{f: f, b: b, index: i, wake: retry.NewSignal()})
	}
	f.sizeBudget()
	return f, b
}

func applyMetadata(f *Fetcher, meta *sarama.MetadataResponse) {
	leaderLookup{f}.Learn(metadata.NewUpdate(meta))
}

func metadataResponse(partitions int) *sarama.MetadataResponse {
	meta := &sarama.MetadataResponse{}
	meta.AddBroker("127.0.0.1:1", 1)
	for p := range partitions {
		meta.AddTopicPartition("t", int32(p), 1, nil, nil, nil, sarama.ErrNoError)
	}
	return meta
}

// BenchmarkPlan10000 is a wake-up of a lane that has nothing to request: all partitions are in a
// request, or were in one a moment ago.
func BenchmarkPlan10000(b *testing.B) {
	_, broker := newBenchFetcher(10_000, 1)
	now := time.Now()
	broker.caughtUpAt = [2]time.Time{now.Add(time.Hour), now.Add(time.Hour)}
	for b.Loop() {
		if j, _ := broker.lanes[0].nextJob(now); j != nil {
			b.Fatal("there is something to ask")
		}
	}
}

// BenchmarkPlanOne10000 plans a request for one partition that has come back, while the others are in
// a request of another lane.
func BenchmarkPlanOne10000(b *testing.B) {
	_, broker := newBenchFetcher(10_000, 1)
	now := time.Now()
	j, _ := broker.lanes[0].nextJob(now)
	if len(j.participants()) != 10_000 {
		b.Fatal("not all are asked for")
	}
	one := j.participants()[0]
	for b.Loop() {
		now = now.Add(time.Second / 2)
		broker.lanes[0].f.mu.Lock()
		one.finish()
		broker.lanes[0].f.mu.Unlock()
		j, _ := broker.lanes[1].nextJob(now)
		if j == nil || len(j.participants()) != 1 {
			b.Fatal("it is not asked for")
		}
		broker.lanes[0].f.mu.Lock()
		j.release()
		broker.lanes[0].f.mu.Unlock()
	}
}

// BenchmarkPlanBehind10000 plans a request for as many of 10,000 partitions with records as its memory
// allows.
func BenchmarkPlanBehind10000(b *testing.B) {
	f, broker := newBenchFetcher(10_000, 1)
	for s := range f.subs {
		s.cursor.HighWater, s.cursor.LastStable = 100, 100
	}
	now := time.Now()
	for b.Loop() {
		j, _ := broker.lanes[0].nextJob(now)
		f.mu.Lock()
		for _, m := range j.participants() {
			f.responses++
			m.request.turn = f.responses
			m.finish()
		}
		j.release()
		f.mu.Unlock()
	}
}

// BenchmarkLearn10000x5 applies the metadata of 10,000 partitions with five consumers each.
func BenchmarkLearn10000x5(b *testing.B) {
	f, _ := newBenchFetcher(10_000, 5)
	meta := metadataResponse(10_000)
	for b.Loop() {
		applyMetadata(f, meta)
	}
}

// BenchmarkClose10000 closes the subscriptions of 10,000 partitions, as a stop does.
func BenchmarkClose10000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		f, _ := newBenchFetcher(10_000, 1)
		b.StartTimer()
		for s := range f.subs {
			s.Close()
		}
	}
}
