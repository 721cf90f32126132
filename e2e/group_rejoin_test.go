package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/agenttest"
)

// An idler is a member that sends heartbeats and never rejoins, with a rebalance timeout
// of three minutes, like a consumer of another program that processes a record.
type idleMember struct {
	*scene
	t              *testing.T
	group, id      string
	generation     int32
	stop, finished chan struct{}
}

func newIdleMember(t *testing.T, s *scene, group, topic string) *idleMember {
	t.Helper()
	i := &idleMember{scene: s, t: t, group: group, stop: make(chan struct{}), finished: make(chan struct{})}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = group, "consumer", 45_000, 180_000
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{topic}
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "sticky", Metadata: meta.AppendTo(nil)}}
	for i.generation == 0 {
		resp, err := join.RequestWith(t.Context(), s.Client())
		if err != nil {
			t.Fatal(err)
		}
		switch resp.ErrorCode {
		case 0:
			i.generation = resp.Generation
		case kerr.MemberIDRequired.Code:
			i.id, join.MemberID = resp.MemberID, resp.MemberID
		default:
			t.Log(kerr.ErrorForCode(resp.ErrorCode))
			time.Sleep(100 * time.Millisecond)
		}
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = group, i.id, i.generation
	sync.ProtocolType, sync.Protocol = &join.ProtocolType, &join.Protocols[0].Name
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: i.id}}
	if resp, err := sync.RequestWith(t.Context(), s.Client()); err != nil || resp.ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	go i.beat()
	t.Cleanup(func() {
		close(i.stop)
		<-i.finished
	})
	return i
}

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

func (i *idleMember) leave() {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = i.group
	req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: i.id}}
	if _, err := req.RequestWith(i.t.Context(), i.Client()); err != nil {
		i.t.Fatal(err)
	}
}

// members are the client ids of the group's.
func (i *idleMember) members() (clients []string) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{i.group}
	resp, err := req.RequestWith(i.t.Context(), i.Client())
	if err != nil {
		i.t.Fatal(err)
	}
	for _, m := range resp.Groups[0].Members {
		clients = append(clients, m.ClientID)
	}
	return clients
}

// TestMemberThatDoesNotRejoinIsNamed: the consumer is one member that waits, and its error
// names the other one; it runs once the other one has left. Stopped meanwhile, it leaves at
// once, and completely.
func TestMemberThatDoesNotRejoinIsNamed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "idle", 1)
	e, stopped := s.entry("idle", topic), s.entry("stopped", topic)
	i, other := newIdleMember(t, s, e.group, topic), newIdleMember(t, s, stopped.group, topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, stopped)})
	for _, name := range []string{"idle", "stopped"} {
		c := a.WaitConsumer(name, "say for whom it waits", func(c agenttest.Consumer) bool {
			return c.Status == "ERROR" && strings.Contains(c.Error(), "waiting for 1 member to rejoin: client ")
		})
		if c.RestartsTotal != 0 {
			t.Errorf("%s has begun %d times more", name, c.RestartsTotal)
		}
	}
	if m := i.members(); len(m) != 2 {
		t.Errorf("the group has members %v, want the foreign one and one of the agent", m)
	}
	began := time.Now()
	a.Write(s.config(e, stopped.withState("stopped")))
	a.WaitState("stopped", "CREATED")
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("a stop took %v", took)
	}
	if m := other.members(); len(m) != 1 {
		t.Errorf("after the stop, the group has members %v", m)
	}
	i.leave()
	a.WaitConsumer("idle", "have the partition", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 1 && c.RestartsTotal == 0
	})
}
