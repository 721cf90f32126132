package fetch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/limits"
)

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true
	goleak.VerifyTestMain(m)
}

// A rig is an embedded cluster with the topic "t", and a fetcher on it.
type rig struct {
	*testing.T
	cluster  *kfake.Cluster
	producer *kgo.Client
	fetcher  *Fetcher
	memory   *limits.Memory
	version  atomic.Pointer[sarama.KafkaVersion] // of the requests; nil is the newest
}

var smallSettings = Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond}

// largeMessages makes the cluster accept batches of any size.
var largeMessages = kfake.BrokerConfigs(map[string]string{"message.max.bytes": "1000000000"})

func newRig(t *testing.T, brokers int, partitions int32, set Settings, opts ...kfake.Opt) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(append(opts, kfake.NumBrokers(brokers), kfake.SeedTopics(partitions, "t"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := &rig{T: t, cluster: cluster, memory: new(limits.Memory)}
	r.producer = r.newClient()
	r.fetcher = r.start(set)
	return r
}

func (r *rig) newClient(opts ...kgo.Opt) *kgo.Client {
	r.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(r.cluster.ListenAddrs()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))...)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(client.Close)
	return client
}

func (r *rig) start(set Settings) *Fetcher { return r.startAt(set, r.cluster.ListenAddrs()...) }

func (r *rig) startAt(set Settings, brokers ...string) *Fetcher {
	return r.startWith(Options{Brokers: brokers, Settings: set})
}

func (r *rig) startWith(o Options) *Fetcher {
	if r.memory == nil {
		r.memory = new(limits.Memory)
	}
	o.Name, o.Memory, o.Config = "test", r.memory, func() (*sarama.Config, error) {
		c := sarama.NewConfig()
		c.Version = sarama.MaxVersion
		if v := r.version.Load(); v != nil {
			c.Version = *v
		}
		return c, nil
	}
	f := New(o)
	f.endsInterval = 50 * time.Millisecond
	f.audit = func(b *broker) { audit(r.T, b) }
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	r.Cleanup(func() {
		cancel()
		wg.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.budget.promised != 0 {
			r.Errorf("%d bytes are still promised after the end", f.budget.promised)
		}
		if n := r.memory.Used(); n != 0 {
			r.Errorf("%d bytes for large batches are still in use after the end", n)
		}
	})
	return f
}

// produce writes count records to the partition, with the values v<first>, v<first+1> and so on.
func (r *rig) produce(partition int32, first, count int) {
	r.Helper()
	recs := make([]*kgo.Record, count)
	for i := range recs {
		recs[i] = &kgo.Record{Partition: partition, Value: fmt.Appendf(nil, "v%d", first+i)}
	}
	r.send(r.producer, recs...)
}

func (r *rig) send(client *kgo.Client, recs ...*kgo.Record) {
	r.Helper()
	if err := client.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

// A reader collects the records of a subscription.
type reader struct {
	*Subscription
	mu     sync.Mutex
	got    []string // "offset=value"
	next   int64
	resets []partition.OutOfRangeError
	err    error
	gate   chan struct{} // once it is closed, the reader is not stuck any more
	done   chan struct{}
}

// startReader subscribes and collects records in the background. If stuck is true, the reader stops after its
// first records until its gate is closed.
func (r *rig) startReader(spec Spec, stuck bool) *reader {
	rd := &reader{gate: make(chan struct{}), done: make(chan struct{}), next: -1}
	if !stuck {
		close(rd.gate)
	}
	spec.Topic = "t"
	if spec.MaxBytes == 0 {
		spec.MaxBytes = 64 << 10
	}
	spec.Reset = func(e partition.OutOfRangeError) {
		rd.mu.Lock()
		defer rd.mu.Unlock()
		rd.resets = append(rd.resets, e)
	}
	rd.Subscription = r.fetcher.Subscribe(spec)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(rd.done)
		rd.run(ctx)
	}()
	r.Cleanup(func() {
		cancel()
		<-rd.done
		rd.Close()
	})
	return rd
}

func (rd *reader) run(ctx context.Context) {
	for {
		var got []string
		next, err := rd.Read(ctx, func(rec *batch.Record) bool {
			got = append(got, fmt.Sprintf("%d=%s", rec.Offset, rec.Value))
			return len(got) < 100
		})
		rd.mu.Lock()
		rd.got, rd.err = append(rd.got, got...), err
		if err == nil {
			rd.next = next
		}
		rd.mu.Unlock()
		if err != nil {
			return
		}
		if len(got) > 0 {
			select {
			case <-rd.gate:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (rd *reader) seen() ([]string, int64, error) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return rd.got[:len(rd.got):len(rd.got)], rd.next, rd.err
}

// waitForRecords waits for the records of the offsets first to end-1, as produce writes them, and for no other.
func (r *rig) waitForRecords(rd *reader, first, end int) {
	r.Helper()
	r.eventually(fmt.Sprintf("records %d to %d", first, end), func() (bool, any) {
		got, next, err := rd.seen()
		return len(got) >= end-first, fmt.Sprintf("%d records, next %d, error %v, last error %v", len(got), next, err, rd.LastError())
	})
	got, _, _ := rd.seen()
	for i, g := range got {
		if want := fmt.Sprintf("%d=v%d", first+i, first+i); g != want {
			r.Fatalf("record %d is %s, want %s", i, g, want)
		}
	}
	if len(got) > end-first {
		r.Fatalf("%d records, want %d", len(got), end-first)
	}
}

// patience is how long a test waits for what must happen, on any machine.
const patience = 2 * time.Minute

func (r *rig) eventually(what string, cond func() (bool, any)) {
	r.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("timed out waiting for %s; last seen: %v", what, seen)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// onFetch makes the cluster call see with each fetch request. see returns the response, or nil for the
// broker's own.
func (r *rig) onFetch(see func(*kmsg.FetchRequest) (kmsg.Response, error, bool)) {
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return see(req.(*kmsg.FetchRequest))
	})
}

// errorResponse returns a response to a fetch with the same error for each partition.
func errorResponse(req *kmsg.FetchRequest, code sarama.KError) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, int16(code)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

var errHangUp = errors.New("hang up")

// waitForError waits until LastError contains text.
func (r *rig) waitForError(rd *reader, text string) {
	r.Helper()
	r.eventually("the error "+text, func() (bool, any) {
		err := rd.LastError()
		return err != nil && strings.Contains(err.Error(), text), err
	})
}

// waitForRecovery waits until LastError is nil.
func (r *rig) waitForRecovery(rd *reader) {
	r.Helper()
	r.eventually("no error", func() (bool, any) { err := rd.LastError(); return err == nil, err })
}

// countdown returns a function that returns true n times, and false afterwards.
func countdown(n int32) func() bool {
	var left atomic.Int32
	left.Store(n)
	return func() bool { return left.Add(-1) >= 0 }
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx, cancel
}
