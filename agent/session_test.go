package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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

	"kcagent/config"
	"kcagent/sink"
)

func TestMain(m *testing.M) {
	SetUpSarama()
	goleak.VerifyTestMain(m)
}

// A memory is a sink that keeps what it is given and fails when told to.
type memory struct {
	mu       sync.Mutex
	recs     []string // "topic/partition@offset=value", in order of arrival
	flushed  int      // how many of recs were flushed
	writeErr error
	flushErr error // one that is ErrLost stays until the sink is opened anew
	flushes  int
	opens    int
}

func (m *memory) open(context.Context, sink.Spec, sink.Options) (sink.Sink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens++
	if errors.Is(m.flushErr, sink.ErrLost) {
		m.recs, m.flushErr = m.recs[:m.flushed], nil
	}
	return m, nil
}

func (m *memory) Write(_ context.Context, recs []sink.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writeErr != nil {
		return m.writeErr
	}
	for _, r := range recs {
		m.recs = append(m.recs, fmt.Sprintf("%s/%d@%d=%s", r.Topic, r.Partition, r.Offset, r.Value))
	}
	return nil
}

func (m *memory) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	if m.flushErr != nil {
		return m.flushErr
	}
	m.flushed = len(m.recs)
	return nil
}

func (m *memory) Update(sink.Spec) error { return nil }
func (m *memory) Close() error           { return m.Flush(context.Background()) }

func (m *memory) fail(write, flush error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeErr, m.flushErr = write, flush
}

func (m *memory) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string{}, m.recs...)
}

// A rig is an agent with a memory sink on an embedded broker.
type rig struct {
	*testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
	agent   *Agent
	memory  *memory
	updates chan config.Update
	stop    func() error
}

func newRig(t *testing.T, partitions int32) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"))
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

// start runs a new agent on the same broker and sink.
func (r *rig) start() {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(r.Output(), nil))
	}
	r.agent = New(Options{Log: log})
	r.agent.open = r.memory.open
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.agent.Run(ctx, r.updates) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	r.Cleanup(func() { _ = r.stop() })
}

// edit gives the agent consumer c with the extra fields.
func (r *rig) edit(extra string) {
	r.Helper()
	if !strings.Contains(extra, "topics:") {
		extra += ", topics: [t]"
	}
	text := fmt.Sprintf(`
consumers:
  - {name: c, brokers: ["%s"], flush: {interval: 20ms}, sink: {stdout: {}}%s}`,
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

// eventually waits for a condition; what says what was seen last.
func (r *rig) eventually(what string, cond func() (bool, any)) {
	r.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s did not come; last seen: %v", what, seen)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (r *rig) consumer() ConsumerStatus {
	for _, c := range r.agent.Status().Consumers {
		if c.Name == "c" {
			return c
		}
	}
	return ConsumerStatus{}
}

func (r *rig) wantStatus(s State) {
	r.Helper()
	r.eventually(string(s), func() (bool, any) {
		c := r.consumer()
		return c.Status == s, c
	})
}

func (r *rig) wantRecords(want ...string) {
	r.Helper()
	r.eventually(strings.Join(want, " "), func() (bool, any) {
		got := r.memory.all()
		return strings.Join(got, " ") == strings.Join(want, " "), got
	})
}

// committed asks the broker.
func (r *rig) committed(partition int32) int64 {
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
			if p.Partition == partition {
				return p.Offset
			}
		}
	}
	return -1
}

func (r *rig) wantCommitted(partition int32, want int64) {
	r.Helper()
	r.eventually(fmt.Sprintf("commit of %d", want), func() (bool, any) {
		got := r.committed(partition)
		return got == want, got
	})
}

// failRequests answers the next n requests of a kind with an error code.
func (r *rig) failOffsetCommits(n int, code *kerr.Error) {
	left := n
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		if left--; left > 0 {
			r.cluster.KeepControl()
		}
		req := k.(*kmsg.OffsetCommitRequest)
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
		return resp, nil, true
	})
}

func TestRecordsArriveAndAreCommitted(t *testing.T) {
	r := newRig(t, 1)
	r.produce(0, "a", "b")
	r.edit("")
	r.wantStatus(Running)
	r.wantRecords("t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 2)
	c := r.consumer()
	if c.RecordsTotal != 2 || len(c.MemberIDs) != 1 || c.Partitions[0].CommittedOffset != 2 || c.LastFlushAt == nil {
		t.Errorf("status is %+v", c)
	}
	_, metrics := get(t, r.agent.Handler(), http.MethodGet, "/metrics")
	for _, line := range []string{
		`kcagent_consumer_records_total{consumer="c"} 2`,
		`kcagent_consumer_bytes_total{consumer="c"} 2`,
		`kcagent_consumer_lag_records{consumer="c"} 0`,
		`kcagent_partition_next_offset{consumer="c",partition="0",topic="t"} 2`,
		`kcagent_partition_lag_records{consumer="c",partition="0",topic="t"} 0`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	for _, name := range []string{"consumer_last_record_timestamp_seconds", "consumer_flush_duration_seconds_bucket"} {
		if !strings.Contains(metrics, "\nkcagent_"+name+`{consumer="c"`) {
			t.Errorf("no metric kcagent_%s", name)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsCommittedBeforeItIsFlushed(t *testing.T) {
	r := newRig(t, 1)
	r.memory.fail(nil, errors.New("disk on fire"))
	r.produce(0, "a")
	r.edit("")
	r.wantStatus(Failing)
	if e := r.consumer().LastError; e == nil || !strings.Contains(*e, "disk on fire") {
		t.Errorf("last error is %v", e)
	}
	r.eventually("a second try", func() (bool, any) {
		r.memory.mu.Lock()
		defer r.memory.mu.Unlock()
		return r.memory.flushes > 1, r.memory.flushes
	})
	if got := r.committed(0); got > 0 {
		t.Errorf("offset %d is committed, and nothing was flushed", got)
	}
	r.memory.fail(nil, nil)
	r.wantStatus(Running)
	r.wantCommitted(0, 1)
	r.wantRecords("t/0@0=a")
}

func TestLostRecordsAreReadAgain(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.produce(0, "a")
	r.wantCommitted(0, 1)
	r.memory.fail(nil, fmt.Errorf("sync: %w", sink.ErrLost))
	r.produce(0, "b")
	r.wantRecords("t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 2)
	if r.consumer().RestartsTotal == 0 || r.memory.opens < 2 {
		t.Errorf("the sink was not opened anew: %d opens", r.memory.opens)
	}
}

func TestWriteErrorHoldsRecordsAndTheMembership(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(Running)
	before := r.consumer()
	r.memory.fail(errors.New("no space left on device"), nil)
	r.produce(0, "a", "b")
	r.wantStatus(Failing)
	if e := r.consumer().LastError; e == nil || !strings.Contains(*e, "no space left") {
		t.Errorf("last error is %v", e)
	}
	r.memory.fail(nil, nil)
	r.wantStatus(Running)
	r.wantRecords("t/0@0=a", "t/0@1=b")
	if after := r.consumer(); after.MemberIDs[0] != before.MemberIDs[0] || after.Generation != before.Generation {
		t.Errorf("the member changed from %v/%d to %v/%d", before.MemberIDs, before.Generation, after.MemberIDs, after.Generation)
	}
}

func TestPauseKeepsTheMemberAndHoldsTheRecords(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	before := r.consumer()
	r.edit(", state: paused")
	r.wantStatus(Paused)
	if r.committed(0) != 1 {
		t.Error("paused, and not everything is committed")
	}
	r.produce(0, "b")
	r.stillOnly("t/0@0=a")
	r.edit("")
	r.wantStatus(Running)
	r.wantRecords("t/0@0=a", "t/0@1=b")
	if after := r.consumer(); after.MemberIDs[0] != before.MemberIDs[0] || after.Generation != before.Generation || after.ID != before.ID {
		t.Error("pausing changed the membership")
	}
}

// stillOnly fails if anything else than want arrives within a while. It
// waits for real: that nothing comes over sockets has no event to wait for.
func (r *rig) stillOnly(want ...string) {
	r.Helper()
	for range 60 {
		if got := r.memory.all(); strings.Join(got, " ") != strings.Join(want, " ") {
			r.Fatalf("got %v, want only %v", got, want)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestPauseSurvivesRebalanceAndRestart(t *testing.T) {
	r := newRig(t, 2)
	r.edit(", state: paused")
	r.wantStatus(Paused)
	generation := r.consumer().Generation
	other, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumerGroup("kcagent-c"),
		kgo.ConsumeTopics("t"), kgo.Balancers(kgo.StickyBalancer()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("a rebalance", func() (bool, any) {
		c := r.consumer()
		return c.Generation > generation && len(c.Partitions) == 1, c
	})
	other.Close() // its partition comes back, and was never paused by name
	r.eventually("both partitions", func() (bool, any) {
		c := r.consumer()
		return len(c.Partitions) == 2, c
	})
	r.wantStatus(Paused)
	r.produce(0, "a")
	r.produce(1, "b")
	r.stillOnly()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.edit(", state: paused")
	r.wantStatus(Paused)
	r.stillOnly()
	r.edit("")
	r.eventually("both records", func() (bool, any) { got := r.memory.all(); return len(got) == 2, got })
}

func TestPausedLagStaysFresh(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a ten-second poll")
	}
	r := newRig(t, 1)
	r.edit(", state: paused")
	r.wantStatus(Paused)
	r.produce(0, "a", "b", "c")
	r.eventually("lag 3", func() (bool, any) { c := r.consumer(); return c.Lag == 3, c.Lag })
}

func TestCommitErrorIsShownAndRetried(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(Running)
	r.wantCommitted(0, 0) // a new group's start is committed, too
	r.failOffsetCommits(1, kerr.GroupAuthorizationFailed)
	r.produce(0, "a")
	r.wantCommitted(0, 1)
	r.wantStatus(Running)
	r.eventually("a counted commit error", func() (bool, any) {
		n := r.agent.snapshot.Load().rows[0].c.stats.commitErrors.Load()
		return n == 1, n
	})
	r.wantRecords("t/0@0=a")
}

func TestMissingTopicHealsByItself(t *testing.T) {
	r := newRig(t, 1)
	r.edit(", topics: [t, late]")
	r.wantStatus(Failing)
	if e := r.consumer().LastError; e == nil || !strings.Contains(*e, `"late"`) {
		t.Errorf("last error is %v, want the topic's name", e)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "late", 1, 1
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(context.Background(), r.client); err != nil {
		t.Fatal(err)
	}
	r.wantStatus(Running)
	if len(r.consumer().Partitions) != 2 {
		t.Errorf("partitions are %v", r.consumer().Partitions)
	}
}

func TestStartPolicies(t *testing.T) {
	for _, tt := range []struct{ start, want string }{
		{"latest", "t/0@2=new"},
		{"2020-01-01T00:00:00Z", "t/0@0=a t/0@1=b t/0@2=new"},
		{"2999-01-01T00:00:00Z", "t/0@2=new"},
		{"earliest", "t/0@0=a t/0@1=b t/0@2=new"},
	} {
		t.Run(tt.start, func(t *testing.T) {
			r := newRig(t, 1)
			r.produce(0, "a", "b")
			r.edit(`, start: "` + tt.start + `"`)
			r.wantStatus(Running)
			r.produce(0, "new")
			r.wantRecords(strings.Fields(tt.want)...)
		})
	}
}

func TestOutOfRange(t *testing.T) {
	commit := func(r *rig, offset int64) {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = "kcagent-c", -1
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Offset = offset
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		if _, err := req.RequestWith(context.Background(), r.client); err != nil {
			r.Fatal(err)
		}
	}
	resets := func(r *rig) int64 { return r.agent.snapshot.Load().rows[0].c.stats.offsetResets.Load() }
	t.Run("earliest", func(t *testing.T) {
		r := newRig(t, 1)
		r.produce(0, "a", "b")
		commit(r, 99)
		r.edit("")
		r.wantRecords("t/0@0=a", "t/0@1=b")
		if resets(r) != 1 {
			t.Errorf("%d resets were counted", resets(r))
		}
	})
	t.Run("latest", func(t *testing.T) {
		r := newRig(t, 1)
		r.produce(0, "a", "b")
		commit(r, 99)
		r.edit(", on_offset_out_of_range: latest")
		r.wantStatus(Running)
		r.produce(0, "new")
		r.wantRecords("t/0@2=new")
	})
	t.Run("fail", func(t *testing.T) {
		r := newRig(t, 1)
		r.produce(0, "a", "b")
		commit(r, 99)
		r.edit(", on_offset_out_of_range: fail")
		r.wantStatus(Failing)
		if e := *r.consumer().LastError; !strings.Contains(e, "99") || !strings.Contains(e, "out of range") {
			t.Errorf("last error is %q", e)
		}
		if got := r.memory.all(); len(got) > 0 {
			t.Errorf("got %v", got)
		}
	})
}

// away makes the broker close every connection instead of answering.
func (r *rig) away() (back func()) {
	var isBack atomic.Bool
	r.cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		if isBack.Load() {
			return nil, nil, false
		}
		r.cluster.KeepControl()
		return nil, errors.New("away"), true
	})
	return func() { isBack.Store(true) }
}

func TestBrokerAwayAtStart(t *testing.T) {
	r := newRig(t, 1)
	r.produce(0, "a")
	back := r.away()
	r.edit("")
	r.wantStatus(Failing)
	if e := r.consumer().LastError; e == nil || !strings.Contains(*e, r.cluster.ListenAddrs()[0]) {
		t.Errorf("last error is %v, want the broker's address", e)
	}
	back()
	r.wantStatus(Running)
	r.wantRecords("t/0@0=a")
	if c := r.consumer(); c.LastError != nil {
		t.Errorf("it works again and still shows %q", *c.LastError)
	}
}

func TestBrokerAwayInMidRun(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	r.wantCommitted(0, 1)
	back := r.away()
	r.wantStatus(Failing)
	back()
	r.wantStatus(Running) // with nothing to read, too
	r.produce(0, "b")
	r.wantRecords("t/0@0=a", "t/0@1=b")
}

func TestStopsWhileBrokerIsAway(t *testing.T) {
	r := newRig(t, 1)
	r.away()
	r.edit("")
	r.wantStatus(Failing)
	if err := r.stop(); err != nil {
		t.Errorf("stopping while the broker is away: %v", err)
	}
}

func TestGoroutinesCarryTheConsumersName(t *testing.T) {
	r := newRig(t, 4)
	r.edit("")
	r.wantStatus(Running)
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	th, err := r.agent.Threads()
	if err != nil {
		t.Fatal(err)
	}
	if n := th.Consumers["c"]; n < 8 {
		t.Errorf("only %d goroutines are counted for the consumer", n)
	}
	for _, g := range th.Threads {
		if g.Consumer == nil && strings.Contains(g.Function, "sarama") {
			t.Errorf("%d goroutines in %s belong to nobody", g.Count, g.Function)
		}
		if !g.Recognized {
			t.Errorf("not recognized: %+v", g)
		}
	}
	if len(th.Zombies) != 0 {
		t.Errorf("zombies: %+v", th.Zombies)
	}
}
