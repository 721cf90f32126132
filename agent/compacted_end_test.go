package agent

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/config"
)

// A holedCluster counts requests, and answers fetches at a hole as a broker does after the
// last records were compacted away: without records, and with an end of the log beyond the
// position.
type holedCluster struct {
	*rig
	mu       sync.Mutex
	ends     map[int32]int64 // of the log of partitions of t with a hole at offset 3
	answered int             // fetches at holes
	requests map[string]int  // joins and leaves by group, connections
	kick     map[string]bool // groups whose next heartbeat starts a rebalance
}

func newHoledCluster(t *testing.T, partitions int32) *holedCluster {
	r := &holedCluster{ends: make(map[int32]int64), requests: make(map[string]int), kick: make(map[string]bool)}
	r.rig = newRig(t, partitions, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		return &countingListener{l, r}, err
	}))
	control := func(key kmsg.Key, take func(k kmsg.Request) (kmsg.Response, bool)) {
		r.cluster.ControlKey(int16(key), func(k kmsg.Request) (kmsg.Response, error, bool) {
			r.cluster.KeepControl()
			r.mu.Lock()
			defer r.mu.Unlock()
			resp, handled := take(k)
			return resp, nil, handled
		})
	}
	count := func(what func(kmsg.Request) string) func(kmsg.Request) (kmsg.Response, bool) {
		return func(k kmsg.Request) (kmsg.Response, bool) {
			r.requests[what(k)]++
			return nil, false
		}
	}
	control(kmsg.JoinGroup, count(func(k kmsg.Request) string { return "join " + k.(*kmsg.JoinGroupRequest).Group }))
	control(kmsg.LeaveGroup, count(func(k kmsg.Request) string { return "leave " + k.(*kmsg.LeaveGroupRequest).Group }))
	control(kmsg.Heartbeat, func(k kmsg.Request) (kmsg.Response, bool) {
		req := k.(*kmsg.HeartbeatRequest)
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.RebalanceInProgress.Code
		kicked := r.kick[req.Group]
		r.kick[req.Group] = false
		return resp, kicked
	})
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		resp, hole := r.fetch(k.(*kmsg.FetchRequest))
		if hole {
			<-time.After(5 * time.Millisecond)
		}
		return resp, nil, hole
	})
	return r
}

type countingListener struct {
	net.Listener
	r *holedCluster
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.r.requests["connections"]++
	return conn, err
}

func (r *holedCluster) fetch(req *kmsg.FetchRequest) (answer kmsg.Response, hole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewFetchResponseTopic()
		st.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			sp := kmsg.NewFetchResponseTopicPartition()
			sp.Partition, sp.HighWatermark, sp.LastStableOffset = rp.Partition, rp.FetchOffset, rp.FetchOffset
			if end := r.ends[rp.Partition]; end > 0 && rp.FetchOffset == 3 {
				hole = true
				sp.HighWatermark, sp.LastStableOffset = end, end
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if hole {
		r.answered++
	}
	return resp, hole
}

func (r *holedCluster) set(partition int32, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[partition] = end
}

// looks waits until there were so many fetches at holes that three stall timeouts of a
// second have passed.
func (r *holedCluster) looks() {
	r.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.answered
	}
	began, since := time.Now(), count()
	r.eventually("three stall timeouts", func() (bool, any) {
		return time.Since(began) > 3*time.Second && count() > since+10, count() - since
	})
}

func (r *holedCluster) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.requests)
}

func (r *holedCluster) warnings() int {
	return strings.Count(r.log.String(), "broker has no records up to the end of the log; waiting for the end to move")
}

func (r *holedCluster) stalls() int64 { return r.counters().Stalls }

// runTwo runs c, and a consumer d of the same topic in another group.
func (r *holedCluster) runTwo() {
	r.Helper()
	text := fmt.Sprintf(`
defaults: {brokers: ["%s"], topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}
consumers:
  - {name: c, stall_timeout: 1s}
  - {name: d, stall_timeout: 1h}`, r.cluster.ListenAddrs()[0])
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		r.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
}

// TestCompactedEndOfTheLogRestartsTheConsumerOnce: partitions whose last records
// were compacted away cause one restart together. It does not help, so a warning follows,
// and nothing else in later generations either: no restart, no connection, no error. Other
// consumers are not affected. A stall that begins once the end moves is detected.
func TestCompactedEndOfTheLogRestartsTheConsumerOnce(t *testing.T) {
	t.Parallel()
	r := newHoledCluster(t, 3)
	for p := range int32(3) {
		r.produce(p, "a", "b", "c")
	}
	r.runTwo()
	r.wantStatus(consumer.Running)
	for p := range int32(3) {
		r.wantCommitted(p, 3)
	}
	before := r.counts()
	r.set(0, 4)
	r.set(1, 5)
	r.eventually("a warning for each hole", func() (bool, any) { return r.warnings() >= 2, r.log.String() })
	r.wantStatus(consumer.Running)
	once := r.counts()
	if joins, leaves := once["join kcagent-c"]-before["join kcagent-c"], once["leave kcagent-c"]; joins > 2 || leaves != 1 || r.stalls() < 1 || r.stalls() > 2 {
		t.Errorf("%d joins, %d leaves, %d stalls; want one restart", joins, leaves, r.stalls())
	}
	if n := once["connections"] - before["connections"]; n > 4 { // coordinator, two lanes, metadata
		t.Errorf("%d connections for one restart", n)
	}
	r.looks()
	if again := r.counts(); !maps.Equal(again, once) {
		t.Errorf("after the warning: %v, want %v", again, once)
	}

	r.mu.Lock()
	r.kick["kcagent-c"] = true
	r.mu.Unlock()
	r.eventually("another generation", func() (bool, any) { return r.counts()["join kcagent-c"] > once["join kcagent-c"], r.counts() })
	r.wantStatus(consumer.Running)
	r.looks()
	if n := r.counters().StalledPartitions; n != 2 {
		t.Errorf("%d partitions are stalled, want 2", n)
	}
	if c := r.consumer(); c.RestartsTotal != 1 || c.Status != consumer.Running || c.LastError != nil || c.Lag == nil || *c.Lag != 3 || r.warnings() != 2 {
		t.Errorf("after another generation: %+v, %d warnings", c, r.warnings())
	}
	if now := r.counts(); now["join kcagent-d"] != before["join kcagent-d"] || now["leave kcagent-d"] != 0 {
		t.Errorf("another consumer was affected: %v", now)
	}

	stalls := r.stalls()
	r.produce(0, "d", "e", "f") // the broker does not return them yet
	r.set(0, 6)
	r.eventually("a stall where the end has moved", func() (bool, any) { return r.stalls() == stalls+1, r.stalls() })
	r.set(0, 0)
	r.eventually("the records after it", func() (bool, any) {
		got := r.memory.all()
		return slices.Contains(got, "t/0@5=f"), got
	})
	r.set(1, 0)
	r.eventually("no partition to be stalled", func() (bool, any) {
		n := r.counters().StalledPartitions
		return n == 0, n
	})
	if want := "end of the log has moved; no longer waiting for it"; !strings.Contains(r.log.String(), want) {
		t.Errorf("%q is not logged", want)
	}
}
