package agent

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/testkit"
	"kcagent/e2e/badnet"
)

func TestMissingTopicIsReadOnceCreated(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.edit(", topics: [t, late]")
	failing := r.wantStatus(consumer.Failing)
	if e := failing.LastError; e == nil || !strings.Contains(*e, `"late"`) {
		t.Errorf("last error is %v, want the topic's name", e)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "late", 1, 1
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(context.Background(), r.client); err != nil {
		t.Fatal(err)
	}
	r.wantStatus(consumer.Running)
	if len(r.consumer().Partitions) != 2 {
		t.Errorf("partitions are %v", r.consumer().Partitions)
	}
}

func TestStartPolicyDecidesTheFirstRecord(t *testing.T) {
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
			r.wantStatus(consumer.Running)
			r.produce(0, "new")
			r.wantRecords(strings.Fields(tt.want)...)
			r.wantCommitted(0, 3)
			if n := r.counters().OffsetStarts; n != 1 {
				t.Errorf("%d starts were counted", n)
			}
			if log := r.log.String(); !strings.Contains(log, "no committed offset; applying start policy") || !strings.Contains(log, `"start":"`+tt.start+`"`) {
				t.Errorf("the log has no line about the start:\n%s", log)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			r.start() // the group has an offset now
			r.edit(`, start: "` + tt.start + `"`)
			r.wantStatus(consumer.Running)
			if n := r.counters().OffsetStarts; n != 0 {
				t.Errorf("%d starts were counted for a group that has offsets", n)
			}
		})
	}
}

func TestOutOfRangePolicyDecidesTheNextRecord(t *testing.T) {
	resets := func(r *rig) int64 { return r.counters().OffsetResets }
	t.Run("earliest", func(t *testing.T) {
		r := newRig(t, 1)
		r.produce(0, "a", "b")
		r.commitExternally(0, 99, "")
		r.edit("")
		r.wantRecords("t/0@0=a", "t/0@1=b")
		if resets(r) != 1 {
			t.Errorf("%d resets were counted", resets(r))
		}
	})
	t.Run("latest", func(t *testing.T) {
		r := newRig(t, 1)
		r.produce(0, "a", "b")
		r.commitExternally(0, 99, "")
		r.edit(", on_offset_out_of_range: latest")
		r.wantStatus(consumer.Running)
		r.produce(0, "new")
		r.wantRecords("t/0@2=new")
		if log := r.log.String(); resets(r) != 1 || !strings.Contains(log, "offset out of range; applying on_offset_out_of_range") || !strings.Contains(log, `"policy":"latest"`) {
			t.Errorf("%d resets were counted; the log:\n%s", resets(r), log)
		}
	})
	t.Run("fail", func(t *testing.T) {
		r := newRig(t, 1)
		r.produce(0, "a", "b")
		r.commitExternally(0, 99, "")
		r.edit(", on_offset_out_of_range: fail")
		failing := r.wantStatus(consumer.Failing)
		if e := *failing.LastError; !strings.Contains(e, "99") || !strings.Contains(e, "out of range") {
			t.Errorf("last error is %q", e)
		}
		if got := r.memory.all(); len(got) > 0 {
			t.Errorf("got %v", got)
		}
	})
}

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

func TestConsumerStartsOnceTheBrokerIsUp(t *testing.T) {
	r := newRig(t, 1)
	r.produce(0, "a")
	back := r.away()
	r.edit("")
	failing := r.wantStatus(consumer.Failing)
	if e := failing.LastError; e == nil || !strings.Contains(*e, r.cluster.ListenAddrs()[0]) {
		t.Errorf("last error is %v, want the broker's address", e)
	}
	back()
	r.wantStatus(consumer.Running)
	r.wantRecords("t/0@0=a")
	if c := r.consumer(); c.LastError != nil {
		t.Errorf("the consumer works again, but the status has the error %q", *c.LastError)
	}
}

func TestConsumerResumesAfterAnOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.edit("")
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	r.wantCommitted(0, 1)
	back := r.away()
	r.wantStatus(consumer.Failing)
	back()
	r.wantStatus(consumer.Running) // also without records to read
	r.produce(0, "b")
	r.wantRecords("t/0@0=a", "t/0@1=b")
}

// TestPausedConsumerStaysPausedAfterAnOutage: a paused consumer that has to rejoin is shown
// in ERROR, and then as paused, never as running.
func TestPausedConsumerStaysPausedAfterAnOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	var isBack atomic.Bool
	r.cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return nil, errors.New("away"), !isBack.Load()
	})
	r.cluster.ControlKey(int16(kmsg.Heartbeat), func(k kmsg.Request) (kmsg.Response, error, bool) {
		resp := k.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
	r.wantStatus(consumer.Failing)
	isBack.Store(true)
	r.wantStatus(consumer.Paused)
	r.eventually("the last move", func() (bool, any) { // it is logged after it is shown
		moves := r.moves()
		return len(moves) == 4, moves
	})
	if moves := strings.Join(r.moves(), " "); moves != "CREATED>STARTING STARTING>PAUSED PAUSED>ERROR ERROR>PAUSED" {
		t.Errorf("the moves are %s", moves)
	}
}

func TestStopDoesNotWaitForABrokerThatIsDown(t *testing.T) {
	r := newRig(t, 1)
	r.away()
	r.edit("")
	r.wantStatus(consumer.Failing)
	if err := r.stop(); err != nil {
		t.Errorf("stopping while the broker is away: %v", err)
	}
}

// coordinatorAt makes the cluster name addr as the coordinator of groups.
func (r *rig) coordinatorAt(addr string, groups ...string) {
	r.coordinators(func(group string) string {
		if slices.Contains(groups, group) {
			return addr
		}
		return r.cluster.ListenAddrs()[0]
	})
}

func (r *rig) coordinators(at func(group string) string) { testkit.SetCoordinators(r.cluster, at) }

// TestUnusableCoordinatorIsReported: a coordinator that does not respond, or that is not a
// Kafka broker, is reported with its address within half a minute.
func TestUnusableCoordinatorIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"deaf":     {func(net.Conn) {}, "accepts connections and has not answered within 10s"},
		"stranger": {func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n")) }, `does not speak Kafka: its response begins with "HTTP/1.1 400`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			addr := badnet.Listen(t, c.serve)
			r.coordinatorAt(addr, "kcagent-c")
			r.edit("")
			failing := r.wantStatus(consumer.Failing)
			if e := *failing.LastError; !strings.Contains(e, "its coordinator at "+addr+" "+c.want) {
				t.Errorf("last error is %q", e)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestForgottenMemberRejoins: a coordinator that has forgotten the member accepts it again,
// although it rejoins with its former id.
func TestForgottenMemberRejoins(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	was := r.consumer()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = "kcagent-c"
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = was.MemberIDs[0]
	req.Members = append(req.Members, member)
	if resp, err := req.RequestWith(context.Background(), r.client); err != nil || resp.ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	r.eventually("another generation", func() (bool, any) {
		c := r.consumer()
		return c.Status == consumer.Running && len(c.MemberIDs) == 1 && c.MemberIDs[0] != was.MemberIDs[0], c
	})
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
}
