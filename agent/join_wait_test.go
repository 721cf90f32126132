package agent

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/e2e/badnet"
)

// joins records the member ids of the JoinGroup requests that the cluster receives, except
// those of pre-checks.
func (r *rig) joins() func() (ids []string) {
	var mu sync.Mutex
	var all []string
	r.cluster.ControlKey(int16(kmsg.JoinGroup), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if id := k.(*kmsg.JoinGroupRequest).MemberID; !strings.HasPrefix(id, "kcagent-pre-check-") {
			all = append(all, id)
		}
		return nil, nil, false
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// TestJoinWaitsForAMemberThatDoesNotRejoin: one request waits until the rebalance ends, and
// the status names the member. A stop does not wait, and leaves no member behind.
func TestJoinWaitsForAMemberThatDoesNotRejoin(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.memberOf("kcagent-c", "consumer", "sticky")
	joins := r.joins()
	r.edit("")
	r.wantErrorWithin(time.Minute, `join group kcagent-c: waiting for 1 member to rejoin: client "kgo" at `)
	if ids := joins(); len(ids) != 2 || ids[0] != "" || ids[1] == "" {
		t.Errorf("the member ids of its joins are %q, want none and then one", ids)
	}
	began := time.Now()
	r.edit(", state: stopped")
	r.wantStatus(consumer.Created)
	if took := time.Since(began); took > consumer.CloseConnectionsAfter/2 {
		t.Errorf("the stop took %v", took)
	}
	if g := r.describe("kcagent-c"); len(g.Members) != 1 || g.Members[0].ClientID != "kgo" {
		t.Errorf("the group has %+v after the stop", g.Members)
	}
}

// TestStaticMemberLeavesBeforeItsJoinIsAnswered: a static member that is stopped while it waits for
// another one to rejoin does not know its member id, and does not count itself among the members that
// it waits for. It leaves by its instance_id, so that the group does not wait for its session to time
// out.
func TestStaticMemberLeavesBeforeItsJoinIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.memberOf("kcagent-c", "consumer", "sticky")
	joins := r.joins()
	r.edit(", instance_id: host-1")
	r.eventually("a join", func() (bool, any) { ids := joins(); return len(ids) > 0, ids })
	r.edit(", instance_id: host-1, state: stopped")
	r.wantStatus(consumer.Created)
	if g := r.describe("kcagent-c"); len(g.Members) != 1 || g.Members[0].ClientID != "kgo" {
		t.Errorf("the group has %+v after the stop", g.Members)
	}
}

// TestUnresponsiveCoordinatorEndsTheJoin: a coordinator that stops responding is reported,
// and the join is sent again, although joins may take long.
func TestUnresponsiveCoordinatorEndsTheJoin(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way, move := r.detour()
	r.memberOf("kcagent-c", "consumer", "sticky")
	joins := r.joins()
	r.edit("")
	r.eventually("a join", func() (bool, any) { ids := joins(); return len(ids) == 2, ids })
	way.Set(badnet.Fault{LoseAnswers: true})
	r.wantErrorWithin(40*time.Second, "join group kcagent-c: its coordinator at "+way.Addr()+" has not responded: ")
	shown := func() string { return *r.consumer().LastError }
	r.eventually("the end of the join", func() (bool, any) { return r.consumer().RestartsTotal > 0, shown() })
	if e := shown(); !strings.Contains(e, "has not responded") {
		t.Errorf("after the join was given up, the error is %q", e)
	}
	move()
	r.eventually("another join", func() (bool, any) { ids := joins(); return len(ids) > 2, ids })
}

// TestJoinWaitsWhereTheBrokerIsFull: a join that waits is not given up because the broker
// rejects the connection that describes the group: the next join would be rejected too.
func TestJoinWaitsWhereTheBrokerIsFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way, _ := r.detour()
	r.memberOf("kcagent-c", "consumer", "sticky")
	joins := r.joins()
	r.edit("")
	r.eventually("a join", func() (bool, any) { ids := joins(); return len(ids) == 2, ids })
	way.Set(badnet.Fault{Most: 1})
	r.wantErrorWithin(time.Minute, "join group kcagent-c: waiting for the other members to rejoin; ")
	if ids := joins(); len(ids) != 2 {
		t.Errorf("the member ids of its joins are %q", ids)
	}
	if n := way.Connections(); n < 2 {
		t.Errorf("%d connections, want one more that describes the group", n)
	}
}

// TestTopicsCanChangeWhileAJoinWaits: the member joins again with the other topics.
func TestTopicsCanChangeWhileAJoinWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.makeTopic("u")
	r.memberOf("kcagent-c", "consumer", "sticky")
	joins := r.joins()
	r.edit("")
	r.eventually("a join", func() (bool, any) { ids := joins(); return len(ids) == 2, ids })
	r.edit(", topics: [t, u]")
	r.eventually("another join", func() (bool, any) { ids := joins(); return len(ids) == 3, ids })
	if ids := joins(); ids[2] != ids[1] {
		t.Errorf("the member ids of its joins are %q", ids)
	}
}

// wantErrorWithin waits for ERROR with an error that begins with prefix.
func (r *rig) wantErrorWithin(limit time.Duration, prefix string) {
	r.Helper()
	r.within(limit, "ERROR with "+prefix, func() (bool, any) {
		c := r.consumer()
		return c.Status == consumer.Failing && strings.HasPrefix(*c.LastError, prefix), c
	})
}
