package agent

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/testkit"
	"kcagent/config"
	"kcagent/e2e/badnet"
)

// countRequests counts the requests of a kind that the cluster receives, by client id.
func (r *rig) countRequests(key kmsg.Key) func(client string) int {
	counts := make(chan map[string]int, 1)
	counts <- map[string]int{}
	r.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		c := <-counts
		c["all"]++
		counts <- c
		return nil, nil, false
	})
	return func(client string) int {
		c := <-counts
		defer func() { counts <- c }()
		return c[client]
	}
}

// TestGenerationNeedsOneRequestForOffsets: whatever the number of partitions, a generation
// needs one request for committed offsets, so that a long round trip does not delay it.
func TestGenerationNeedsOneRequestForOffsets(t *testing.T) {
	t.Parallel()
	const partitions = 300
	r := newRig(t, partitions)
	way, _ := r.detour()
	way.Set(badnet.Fault{Latency: 25 * time.Millisecond})
	fetches, commits := r.countRequests(kmsg.OffsetFetch), r.countRequests(kmsg.OffsetCommit)
	r.edit("")
	r.wantStatus(consumer.Running)
	if n := fetches("all"); n != 1 {
		t.Errorf("the first generation sent %d OffsetFetch requests, want 1", n)
	}
	if n := commits("all"); n > 10 {
		t.Errorf("the first generation sent %d OffsetCommit requests", n)
	}

	// A second member: two generations begin, one of each.
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], group: kcagent-c, flush: {interval: 20ms}}\nconsumers:\n"+
		"- {name: c, sink: {stdout: {}}}\n- {name: d, sink: {stdout: {}}}\n", r.cluster.ListenAddrs()[0])
	before := fetches("all")
	r.updates <- config.Update{Config: testkit.Parse(t, text)}
	r.eventually("two members", func() (bool, any) {
		cs := r.agent.Status().Consumers
		return len(cs) == 2 && len(cs[0].Partitions) == partitions/2 && len(cs[1].Partitions) == partitions/2 &&
			cs[0].Status == consumer.Running && cs[1].Status == consumer.Running, cs
	})
	generations := 0
	for _, c := range r.agent.Status().Consumers {
		generations += int(c.RebalancesTotal)
	}
	if n := fetches("all") - before; n != generations-1 {
		t.Errorf("%d more generations sent %d OffsetFetch requests", generations-1, n)
	}
}

// TestJoinWaitsForTheCoordinatorOfANewCluster: a new cluster has no coordinator for some
// seconds. That is not an error, and the join does not start again.
func TestJoinWaitsForTheCoordinatorOfANewCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	var asked atomic.Int32
	r.cluster.ControlKey(int16(kmsg.FindCoordinator), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if asked.Add(1) > 8 {
			return nil, nil, false
		}
		resp := k.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp, nil, true
	})
	r.edit("")
	r.wantStatus(consumer.Running)
	if c, moves := r.consumer(), r.moves(); c.RestartsTotal > 0 || slices.Contains(moves, "STARTING>ERROR") {
		t.Errorf("the join started %d more times: %v", c.RestartsTotal, moves)
	}
}
