package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.uber.org/goleak"

	"kcagent/agent/consumer"
	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/agent/stats"
	"kcagent/agent/testkit"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/e2e/wait"
)

func TestMain(m *testing.M) {
	kafka.SetUpSarama(nil)
	goleak.VerifyTestMain(m)
}

const rigVersion = "1.2.3-test" // of the agent

type rig struct {
	*testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
	agent   *Agent
	outages *outage.Log // of the consumers
	memory  *memory
	open    consumer.OpenSink // nil: that of memory
	files   *filewatch.Files  // nil: none are watched
	updates chan config.Update
	stop    func() error
	log     testkit.LogBuffer
}

// moves lists the state changes that were logged, "FROM>TO". It fails on one without a
// reason.
func (r *rig) moves() []string {
	r.Helper()
	var moves []string
	for _, l := range r.log.Logged(r, "consumer state changed") {
		moves = append(moves, l.From+">"+l.To)
		if l.Reason == "" || l.Consumer != "c" {
			r.Errorf("a state change without its reason or consumer: %+v", l)
		}
	}
	return moves
}

func newRig(t *testing.T, partitions int32, opts ...kfake.Opt) *rig {
	t.Helper()
	t.TempDir() // registers its removal before the end of the agent, so that it follows it
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxVersions(kversion.V3_6_0())) // topics by name, not by id
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r := &rig{T: t, cluster: cluster, client: client, memory: &memory{}, updates: make(chan config.Update)}
	r.start()
	return r
}

func (r *rig) start() {
	log := slog.New(slog.NewJSONHandler(&r.log, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewJSONHandler(io.MultiWriter(&r.log, r.Output()), nil))
	}
	r.agent = New(Options{Log: log, Files: r.files})
	open := r.open
	if open == nil {
		open = r.memory.open
	}
	open = withVersion(open, rigVersion)
	clusters, outages := r.agent.clusters, outage.NewLog(log)
	r.outages = outages
	r.agent.newRunner = func(spec *config.Consumer) runner { return consumer.New(spec, log, open, clusters, outages) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.agent.Run(ctx, r.updates) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	r.Cleanup(func() { _ = r.stop() })
}

func (r *rig) edit(extra string) {
	r.Helper()
	for field, value := range map[string]string{"topics": ": [t]", "flush": ": {interval: 20ms}", "sink": ": {stdout: {}}"} {
		if !strings.Contains(extra, field) {
			extra += ", " + field + value
		}
	}
	text := fmt.Sprintf(`
consumers:
  - {name: c, brokers: ["%s"]%s}`,
		r.cluster.ListenAddrs()[0], extra)
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		r.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
}

func (r *rig) produce(partition int32, values ...string) {
	r.Helper()
	recs := make([]*kgo.Record, len(values))
	for i, v := range values {
		recs[i] = &kgo.Record{Topic: "t", Partition: partition, Value: []byte(v)}
	}
	if err := r.client.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) eventually(what string, cond func() (bool, any)) {
	r.Helper()
	r.within(wait.Timeout, what, cond)
}

// within waits until cond is true, for limit at most.
func (r *rig) within(limit time.Duration, what string, cond func() (bool, any)) {
	r.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s did not happen; last seen: %v", what, seen)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (r *rig) consumer() web.ConsumerStatus {
	for _, c := range r.agent.Status().Consumers {
		if c.Name == "c" {
			return c
		}
	}
	return web.ConsumerStatus{}
}

// running is the consumer that is first in the file.
func (r *rig) running() *consumer.Consumer {
	return r.agent.snapshot.Load().Rows[0].Consumer.(*consumer.Consumer)
}

// metrics is what /metrics shows.
func (r *rig) metrics() string {
	w := httptest.NewRecorder()
	r.agent.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	return w.Body.String()
}

func (r *rig) counters() stats.Counters {
	return r.agent.snapshot.Load().Rows[0].Consumer.Snapshot().Counters
}

// wantStatus waits for a state, and returns the status that has it. The consumer may have left the
// state since.
func (r *rig) wantStatus(s consumer.State) (c web.ConsumerStatus) {
	r.Helper()
	r.eventually(string(s), func() (bool, any) {
		c = r.consumer()
		return c.Status == s, c
	})
	return c
}

// wantError waits for ERROR with an error that contains text.
func (r *rig) wantError(text string) {
	r.Helper()
	r.eventually("ERROR with "+text, func() (bool, any) {
		c := r.consumer()
		return c.Status == consumer.Failing && c.LastError != nil && strings.Contains(*c.LastError, text), c
	})
}

func (r *rig) wantRecords(want ...string) {
	r.Helper()
	r.eventually(strings.Join(want, " "), func() (bool, any) {
		got := r.memory.all()
		return strings.Join(got, " ") == strings.Join(want, " "), got
	})
}

func (r *rig) committed(partition int32) int64 {
	r.Helper()
	offset, _ := r.commitOf(partition)
	return offset
}

// commitOf returns what the group has committed; -1 if nothing.
func (r *rig) commitOf(partition int32) (offset int64, metadata string) {
	r.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = "kcagent-c"
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "kcagent-c"
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil {
		r.Fatal(err)
	}
	for _, t := range resp.Groups[0].Topics {
		for _, p := range t.Partitions {
			if t.Topic == "t" && p.Partition == partition {
				if p.Metadata != nil {
					metadata = *p.Metadata
				}
				return p.Offset, metadata
			}
		}
	}
	return -1, ""
}

// commitExternally commits as an administration tool does, without a member.
func (r *rig) commitExternally(partition int32, offset int64, metadata string) {
	r.Helper()
	r.commitAs(partition, offset, -1, metadata)
}

// commitAs is commitExternally with a leader epoch, as clients commit it.
func (r *rig) commitAs(partition int32, offset int64, epoch int32, metadata string) {
	r.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = "kcagent-c", -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = partition, offset, epoch, &metadata
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

func (r *rig) wantCommitted(partition int32, want int64) {
	r.Helper()
	r.eventually(fmt.Sprintf("commit of %d", want), func() (bool, any) {
		got := r.committed(partition)
		return got == want, got
	})
}

// wantGeneration waits until the status has another generation than was, and returns it. The status
// may have it later than what the generation has committed.
func (r *rig) wantGeneration(was int32) (c web.ConsumerStatus) {
	r.Helper()
	r.eventually(fmt.Sprintf("a generation after %d", was), func() (bool, any) {
		c = r.consumer()
		return c.Generation != was && len(c.MemberIDs) == 1, c
	})
	return c
}

func (r *rig) failOffsetCommits(n int, code *kerr.Error) {
	for range n { // each function is for one request
		r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
			return commitResponse(k.(*kmsg.OffsetCommitRequest), code), nil, true
		})
	}
}

// rejectCommits makes every commit get an error response until allow is called.
func (r *rig) rejectCommits(code *kerr.Error) (allow func()) {
	var allowed atomic.Bool
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return commitResponse(k.(*kmsg.OffsetCommitRequest), code), nil, !allowed.Load()
	})
	return func() { allowed.Store(true) }
}

// commitResponse returns the response to a commit with an error code for each partition.
func commitResponse(req *kmsg.OffsetCommitRequest, code *kerr.Error) *kmsg.OffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (r *rig) stillOnly(want ...string) {
	r.Helper()
	for range 60 {
		if got := r.memory.all(); strings.Join(got, " ") != strings.Join(want, " ") {
			r.Fatalf("got %v, want only %v", got, want)
		}
		<-time.After(10 * time.Millisecond)
	}
}
