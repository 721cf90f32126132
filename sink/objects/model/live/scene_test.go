package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.uber.org/goleak"

	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/sink/objects/store/storetest"
)

func TestMain(m *testing.M) {
	kafka.SetUpSarama(nil)
	goleak.VerifyTestMain(m)
}

// A scene is a broker, a store, and the processes of one consumer.
type scene struct {
	*testing.T
	partitions int32
	rotate     string // of the sink
	spool      string
	cluster    *kfake.Cluster
	client     *kgo.Client
	store      *storetest.Memory
	output     io.Writer
	arriving   sync.WaitGroup
	end        chan struct{} // closed once the fresh process has finished

	mu        sync.Mutex
	late      chan struct{} // closed once what is late arrives
	processes map[string]*process
	produced  []int // records of each partition
}

func newScene(t *testing.T, partitions int32, conditional bool, rotate string) *scene {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxVersions(kversion.V3_6_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s := &scene{
		T: t, partitions: partitions, rotate: rotate, spool: t.TempDir(), cluster: cluster, client: client,
		store: storetest.NewMemory(conditional), output: io.Discard, late: make(chan struct{}), end: make(chan struct{}),
		processes: make(map[string]*process), produced: make([]int, partitions),
	}
	if testing.Verbose() {
		s.output = t.Output()
	}
	cluster.ControlKey(int16(kmsg.OffsetCommit), s.control)
	return s
}

func (s *scene) logf(format string, args ...any) { fmt.Fprintf(s.output, format+"\n", args...) }

func (s *scene) yaml(instance string) string {
	return fmt.Sprintf(`
clusters:
  k: {brokers: ["%s"], session_timeout: 6s}
consumers:
  - name: c
    cluster: k
    topics: [t]
    instance_id: %s
    start: earliest
    flush: {interval: 20ms}
    sink:
      objects:
        url: s3://bucket/prefix
        key: "{topic}/minute={time:04}/{partition}-{first}-{last}-{topic_id}"
        format: raw
        compression: none
        spool: %s
        rotate: {%s}
`, s.cluster.ListenAddrs()[0], instance, s.spool, s.rotate)
}

// produce appends n records of the size to a partition. The record i of partition p is "p/i ".
func (s *scene) produce(partition, n, size int) {
	s.Helper()
	for range n {
		value := fmt.Appendf(nil, "%d/%d ", partition, s.produced[partition])
		value = append(value, bytes.Repeat([]byte{'x'}, max(0, size-len(value)))...)
		at := time.Unix(60, 0).Add(time.Duration(s.produced[partition]%2*2-1) * time.Millisecond) // of two minutes: two objects a range
		r := &kgo.Record{Topic: "t", Partition: int32(partition), Value: value, Timestamp: at}
		if err := s.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			s.Fatal(err)
		}
		s.produced[partition]++
	}
}

// control decides about each commit of a process.
func (s *scene) control(r kmsg.Request) (kmsg.Response, error, bool) {
	req := r.(*kmsg.OffsetCommitRequest)
	if req.InstanceID == nil || req.Topics[len(req.Topics)-1].Topic == delivered {
		return nil, nil, false
	}
	s.mu.Lock()
	p := s.processes[*req.InstanceID]
	s.mu.Unlock()
	s.cluster.KeepControl()
	lost := errors.New("no response")
	switch f := p.decide("commit " + text(req)); f {
	case succeeds:
		return nil, nil, false
	case fails, crashes:
		return nil, lost, true
	case late, crashesLate:
		arrives := s.lateness()
		s.arriving.Go(func() {
			<-arrives
			s.deliver(req)
		})
		return nil, lost, true
	default:
		s.cluster.SleepControl(func() { s.deliver(req) })
		if f == errs {
			return timedOut(req), nil, true
		}
		return nil, lost, true
	}
}

// delivered is a topic without partitions in a commit that the test delivers for a process.
const delivered = "delivered"

// deliver delivers a commit over another connection.
func (s *scene) deliver(req *kmsg.OffsetCommitRequest) {
	mark := kmsg.NewOffsetCommitRequestTopic()
	mark.Topic = delivered
	again := *req
	again.Topics = append(slices.Clip(again.Topics), mark)
	resp, err := again.RequestWith(context.Background(), s.client)
	if err != nil {
		s.Errorf("deliver a commit: %v", err)
		return
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			s.logf("a commit of %s arrives: %s%v", *req.InstanceID, text(req), kerr.ErrorForCode(p.ErrorCode))
		}
	}
}

// timedOut is an error response that may follow a commit that was appended.
func timedOut(req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.RequestTimedOut.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// text describes a commit.
func text(req *kmsg.OffsetCommitRequest) (text string) {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			m, _ := offsets.ParseMetadata(*p.Metadata)
			text += fmt.Sprintf("%d:(%d", p.Partition, p.Offset)
			if m.Plan != nil {
				text += fmt.Sprintf(", plan [%d,%d)", m.Plan.First, m.Plan.Next)
			}
			text += ") "
		}
	}
	return text
}

// committed returns the committed offset of a partition, -1 if there is none, and whether a plan is open.
func (s *scene) committed(partition int32) (offset int64, open bool) {
	g := s.cluster.GroupInfo("kcagent-c")
	if g == nil {
		return -1, false
	}
	c, ok := g.Commits["t"][partition]
	if !ok {
		return -1, false
	}
	m, _ := offsets.ParseMetadata(c.Metadata)
	return c.Offset, m.Plan != nil
}

// timeout is what a busy machine may need for what takes moments.
const timeout = time.Minute

// eventually waits until done returns true.
func (s *scene) eventually(what string, done func() bool) {
	s.Helper()
	for deadline := time.Now().Add(timeout); !done(); {
		if time.Now().After(deadline) {
			s.Fatalf("%s did not happen", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// finish lets a fresh process publish everything, and then lets arrive what is late.
func (s *scene) finish() {
	s.Helper()
	for partition := range s.produced {
		s.produce(partition, 1, 0)
	}
	p := s.start(nil)
	s.eventually("reading all records", p.readAll)
	p.stop()
	for partition, n := range s.produced {
		if offset, open := s.committed(int32(partition)); offset != int64(n) || open {
			s.Errorf("partition %d: committed %d, plan open=%v, want %d without a plan", partition, offset, open, n)
		}
	}
	s.wantOnce()
	s.arrive()
	close(s.end)
	s.store.Wait()
	s.arriving.Wait()
	s.logf("objects: %q", s.store.Keys())
	s.wantOnce()
}

// lateness returns a channel that is closed once what is late arrives.
func (s *scene) lateness() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// arrive lets arrive what is late.
func (s *scene) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.late)
	s.late = make(chan struct{})
}

// wantOnce: each record is in one object, and no object was replaced.
func (s *scene) wantOnce() {
	s.Helper()
	seen := make(map[string]string)
	for _, key := range s.store.Keys() {
		_, data, _ := s.store.Content(key)
		for line := range strings.Lines(string(data)) {
			id, _, _ := strings.Cut(line, " ")
			if other, ok := seen[id]; ok {
				s.Errorf("record %s is in %s and in %s", id, other, key)
			}
			seen[id] = key
		}
	}
	for partition, n := range s.produced {
		for i := range n {
			if _, ok := seen[fmt.Sprintf("%d/%d", partition, i)]; !ok {
				s.Errorf("record %d/%d is in no object", partition, i)
			}
		}
	}
}
