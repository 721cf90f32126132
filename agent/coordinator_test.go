package agent

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/e2e/badnet"
)

// detour makes the cluster name a proxy as the coordinator of all groups. After move, it names
// the broker itself.
func (r *rig) detour() (way *badnet.Proxy, move func()) {
	way = badnet.Start(r.T, r.cluster.ListenAddrs()[0])
	var moved atomic.Bool
	r.coordinators(func(string) string {
		if moved.Load() {
			return r.cluster.ListenAddrs()[0]
		}
		return way.Addr()
	})
	return way, func() { moved.Store(true) }
}

// TestMemberLeavesAnUnresponsiveCoordinator: once a coordinator has not responded for too
// long, the new one is used, and no request goes to the former one. The member keeps its
// generation, and the error ends with the first response.
func TestMemberLeavesAnUnresponsiveCoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way, move := r.detour()
	r.edit("")
	r.wantStatus(consumer.Running)
	generation, made := r.consumer().Generation, way.Connections()
	move()
	way.Set(badnet.Fault{LoseAnswers: true})
	failing := r.wantStatus(consumer.Failing)
	if e := *failing.LastError; !strings.Contains(e, "its coordinator at "+way.Addr()+" has not responded within ") {
		t.Errorf("last error is %q", e)
	}
	r.wantStatus(consumer.Running)
	if now := way.Connections(); now != made {
		t.Errorf("%d more connections to the unresponsive coordinator", now-made)
	}
	if c := r.consumer(); c.Generation != generation || c.RestartsTotal > 0 {
		t.Errorf("it is in generation %d instead of %d, after %d restarts", c.Generation, generation, c.RestartsTotal)
	}
}

// TestRestartOfTheCoordinatorKeepsTheGeneration: the group of a broker that is restarted
// has another coordinator some seconds later. An idle consumer keeps its generation and its
// state.
func TestRestartOfTheCoordinatorKeepsTheGeneration(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way, move := r.detour()
	r.edit("")
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, 0) // there is nothing more to commit
	generation := r.consumer().Generation
	way.Set(badnet.Fault{Refuse: true})
	made := way.Connections()
	r.eventually("heartbeats that fail", func() (bool, any) { n := way.Connections(); return n >= made+4, n })
	move()
	var beats atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		beats.Add(1)
		return nil, nil, false
	})
	r.eventually("heartbeats", func() (bool, any) { return beats.Load() > 1, nil })
	if c := r.consumer(); c.Generation != generation || c.RestartsTotal > 0 || slices.Contains(r.moves(), "RUNNING>ERROR") {
		t.Errorf("it is in generation %d instead of %d, after %d restarts and %v", c.Generation, generation, c.RestartsTotal, r.moves())
	}
}

// TestStopDoesNotWaitForTheCoordinator: a stop is quick although the coordinator is not
// known yet.
func TestStopDoesNotWaitForTheCoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	asked, answer := new(atomic.Bool), make(chan struct{})
	r.cluster.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		asked.Store(true)
		<-answer
		return nil, nil, false
	})
	defer close(answer)
	r.edit("")
	r.eventually("a lookup of the coordinator", func() (bool, any) { return asked.Load(), nil })
	began := time.Now()
	r.edit(", state: stopped")
	r.wantStatus(consumer.Created)
	if took := time.Since(began); took > consumer.CloseConnectionsAfter/2 {
		t.Errorf("the stop took %v", took)
	}
}
