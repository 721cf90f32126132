package live

import (
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
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/sink/objects/store/storetest"
)

func TestMain(m *testing.M) {
	kafka.SetUpSarama(nil)
	goleak.VerifyTestMain(m)
}

// A scene is a cluster, the stores, and the processes of one consumer.
type scene struct {
	*testing.T
	partitions int32
	start      string // policy
	settings   settings
	spool      string
	broker     *broker                      // where the consumer is
	stores     map[string]*storetest.Memory // by their url
	output     io.Writer
	arriving   sync.WaitGroup
	end        chan struct{} // closed once the fresh process has finished
	writing    sync.Mutex
	text       strings.Builder // the schedule, for a failure; under writing
	delivering sync.Mutex      // held while the coordinator decides about a commit

	brokers, topics, transactions int          // so far
	transaction                   *transaction // that has not ended; nil if there is none
	ends                          []int64      // offset after the last record of each partition

	mu         sync.Mutex
	late       chan struct{} // closed once what is late arrives
	processes  []*process
	topicID    string           // of the present topic
	last       int              // number of the last record
	records    []*record        // by their numbers
	decoded    bool             // a process has rejected records that are not JSON
	foreign    map[string]bool  // urls and keys of the objects of another group
	remembered map[string][]int // see rememberVisible
	resets     map[tp]int
	starts     map[history]int64 // records below are not due
	accepted   map[history][]accepted
}

func newScene(t *testing.T, partitions int32, conditional bool, rotate string) *scene {
	t.Helper()
	s := &scene{
		T: t, partitions: partitions, start: "earliest", spool: t.TempDir(), output: io.Discard, late: make(chan struct{}), end: make(chan struct{}),
		settings: settings{"bucket", keys[0], zones[0], formats[0], compressions[0], decodings[0], rotate},
		stores:   map[string]*storetest.Memory{"s3://bucket/prefix": storetest.NewMemory(conditional), "s3://other/prefix": storetest.NewMemory(conditional)},
		ends:     make([]int64, partitions), foreign: make(map[string]bool), remembered: make(map[string][]int),
		resets: make(map[tp]int), starts: make(map[history]int64), accepted: make(map[history][]accepted),
	}
	if testing.Verbose() {
		s.output = t.Output()
	}
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("schedule:\n%s", s.text.String())
		}
	})
	s.startBroker()
	return s
}

// logf adds a line to the schedule.
func (s *scene) logf(format string, args ...any) {
	s.writing.Lock()
	defer s.writing.Unlock()
	fmt.Fprintf(&s.text, "  "+format+"\n", args...)
	fmt.Fprintf(s.output, format+"\n", args...)
}

// groupID is the group of the consumer.
const groupID = "kcagent-c"

func (s *scene) yaml(instance string) string {
	x := s.settings
	return fmt.Sprintf(`
clusters:
  k: {brokers: ["%s"], session_timeout: 6s}
consumers:
  - name: c
    cluster: k
    topics: [%s]
    instance_id: %s
    start: %s
    flush: {interval: 20ms}
    decode: {value: %s}
    on_error: skip
    sink:
      objects:
        url: s3://%s/prefix
        key: "%s"
        time_zone: %s
        format: %s
        compression: %s
        spool: %s
        rotate: {%s}
`, s.broker.ListenAddrs()[0], topic, instance, s.start, x.decode, x.bucket, x.key, x.zone, x.format, x.compression, s.spool, x.rotate)
}

// control decides about each commit of a process.
func (s *scene) control(b *broker, req *kmsg.OffsetCommitRequest) (resp kmsg.Response, err error, handled bool) {
	if req.InstanceID == nil || req.Topics[len(req.Topics)-1].Topic == delivered {
		return nil, nil, false
	}
	b.KeepControl()
	p := s.processOf(req)
	b.SleepControl(func() {
		switch f := p.decide("commit " + text(req)); f {
		case succeeds:
			resp = s.deliver(b, p, req)
		case fails, crashes:
		case late, crashesLate:
			arrives := s.lateness()
			s.arriving.Go(func() {
				<-arrives
				s.deliver(b, p, req)
			})
		default:
			if s.deliver(b, p, req); f == errs {
				resp = timedOut(req)
			}
		}
	})
	if resp == nil {
		return nil, errors.New("no response"), true
	}
	return resp, nil, true
}

// processOf returns the process that has sent a commit. Several may have the same instance id.
func (s *scene) processOf(req *kmsg.OffsetCommitRequest) (p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.processes {
		if other.name != *req.InstanceID {
			continue
		}
		if p = other; other.consumer.Brief().MemberID == req.MemberID {
			return p
		}
	}
	return p
}

// delivered is a topic without partitions in a commit that the test delivers for a process.
const delivered = "delivered"

// deliver delivers a commit over another connection, and returns the response; nil if there is none.
func (s *scene) deliver(b *broker, by *process, req *kmsg.OffsetCommitRequest) kmsg.Response {
	mark := kmsg.NewOffsetCommitRequestTopic()
	mark.Topic = delivered
	again := *req
	again.Topics = append(slices.Clip(again.Topics), mark)
	s.delivering.Lock() // the order in which the coordinator accepts commits is that in which they are recorded
	defer s.delivering.Unlock()
	r, err := again.RequestWith(context.Background(), b.client)
	if err != nil {
		s.Errorf("deliver a commit: %v", err)
		return nil
	}
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for i, t := range req.Topics {
		rt := r.Topics[i]
		resp.Topics = append(resp.Topics, rt)
		for j, p := range t.Partitions {
			err := kerr.ErrorForCode(rt.Partitions[j].ErrorCode)
			s.logf("a commit of %s with member id %s, generation %d arrives: %d:%s %v", by.name, req.MemberID, req.Generation, p.Partition, textOf(p), err)
			if err == nil {
				s.recordAccepted(by.name, p.Partition, p)
			}
		}
	}
	return resp
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
			text += fmt.Sprintf("%d:%s ", p.Partition, textOf(p))
		}
	}
	return text
}

// textOf describes the commit of a partition.
func textOf(p kmsg.OffsetCommitRequestTopicPartition) string {
	if m, _ := offsets.ParseMetadata(*p.Metadata); m.Plan != nil {
		return fmt.Sprintf("(%d, plan [%d,%d))", p.Offset, m.Plan.First, m.Plan.Next)
	}
	return fmt.Sprintf("(%d, –)", p.Offset)
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
	s.endTransaction(true)
	for partition := range s.partitions {
		s.produce(int(partition), 1, 0)
	}
	p := s.launch(nil)
	s.eventually("reading all records", p.readAll)
	p.stop()
	for partition, c := range s.commits() {
		if want := s.ends[partition]; c.offset != want || c.open {
			s.Errorf("partition %d: committed %d, plan open=%v, want %d without a plan", partition, c.offset, c.open, want)
		}
	}
	s.check(true)
	s.arrive()
	close(s.end)
	for _, st := range s.stores {
		st.Wait()
	}
	s.arriving.Wait()
	s.check(true)
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
