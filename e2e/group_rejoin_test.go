package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// An idleMember sends heartbeats and never rejoins, with a rebalance timeout of three
// minutes, like a consumer of another program that processes one record for long.
type idleMember struct {
	*scene
	t              *testing.T
	group, id      string
	generation     int32
	stop, finished chan struct{}
}

// newIdleMember returns when the member has joined.
func newIdleMember(t *testing.T, s *scene, group, topic string) *idleMember {
	t.Helper()
	i := &idleMember{scene: s, t: t, group: group, stop: make(chan struct{}), finished: make(chan struct{})}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = group, "consumer", 45_000, 180_000
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{topic}
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "sticky", Metadata: meta.AppendTo(nil)}}
	for i.generation == 0 {
		resp := kafkatest.Request(t, s.Cluster, "join group "+group, join, func(r *kmsg.JoinGroupResponse) error {
			if r.ErrorCode == kerr.MemberIDRequired.Code {
				return nil
			}
			return kerr.ErrorForCode(r.ErrorCode)
		})
		i.id, join.MemberID, i.generation = resp.MemberID, resp.MemberID, max(0, resp.Generation)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = group, i.id, i.generation
	sync.ProtocolType, sync.Protocol = &join.ProtocolType, &join.Protocols[0].Name
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: i.id}}
	kafkatest.Request(t, s.Cluster, "sync group "+group, sync, func(r *kmsg.SyncGroupResponse) error { return kerr.ErrorForCode(r.ErrorCode) })
	go i.beat()
	t.Cleanup(func() {
		close(i.stop)
		<-i.finished
	})
	return i
}

// beat sends heartbeats until the end of the test.
func (i *idleMember) beat() {
	defer close(i.finished)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = i.group, i.id, i.generation
	for {
		select {
		case <-i.stop:
			return
		case <-time.After(3 * time.Second):
			_, _ = req.RequestWith(i.t.Context(), i.Client())
		}
	}
}

// TestMemberThatDoesNotRejoinIsNamed: a consumer that waits for another member to rejoin
// stays one member, and its error names the other. It runs once the other has left. A
// consumer that is stopped while it waits leaves the group at once, and a static member, too.
func TestMemberThatDoesNotRejoinIsNamed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "idle", 1)
	e, stopped, static := s.entry("idle", topic), s.entry("stopped", topic), s.entry("static", topic).static("host-1")
	i, other, third := newIdleMember(t, s, e.group, topic), newIdleMember(t, s, stopped.group, topic), newIdleMember(t, s, static.group, topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, stopped, static)})
	for _, name := range []string{"idle", "stopped", "static"} {
		c := a.WaitConsumer(name, "report for which member it waits", func(c agenttest.Consumer) bool {
			return c.Status == "ERROR" && strings.Contains(c.Error(), "waiting for 1 member to rejoin: client ")
		})
		if c.RestartsTotal != 0 {
			t.Errorf("%s was restarted %d times", name, c.RestartsTotal)
		}
	}
	if m := s.Group(t, i.group).Members; len(m) != 2 {
		t.Errorf("the group has members %v, want the idle one and one of the agent", m)
	}
	began := time.Now()
	a.Write(s.config(e, stopped.withState("stopped"), static.withState("stopped")))
	a.WaitState("stopped", "CREATED")
	a.WaitState("static", "CREATED")
	if took := time.Since(began); took > 15*time.Second { // instead of the rebalance timeout
		t.Errorf("a stop took %v", took)
	}
	for _, group := range []string{other.group, third.group} {
		if m := s.Group(t, group).Members; len(m) != 1 {
			t.Errorf("after the stop, group %s has members %v", group, m)
		}
	}
	s.Leave(t, i.group, i.id)
	a.WaitConsumer("idle", "have the partition", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 1 && c.RestartsTotal == 0
	})
}
