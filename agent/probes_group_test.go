package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/precheck"
	"kcagent/agent/testkit"
)

// ofListener returns the part of an error that names the source of an address.
func ofListener(id int, addr string) string {
	return fmt.Sprintf("broker %d advertises %s (its advertised.listeners; not in the file): "+
		"change that setting, or make the address reachable from this host:", id, addr)
}

// probed returns the findings of a probe of consumer c, with more settings of its cluster.
func (r *rig) probed(settings string) string {
	r.Helper()
	text := fmt.Sprintf("clusters: {k: {brokers: [%q]%s}}\nconsumers: [{name: c, cluster: k, topics: [t], sink: {stdout: {}}}]\n",
		r.cluster.ListenAddrs()[0], settings)
	var all []string
	for _, f := range precheck.Probe(r.Context(), testkit.Parse(r.T, text).Consumers) {
		all = append(all, f.Field+": "+f.Err.Error())
	}
	return strings.Join(all, "\n")
}

// foreign adds a member of another kind to the group of consumer c.
func (r *rig) foreign(balancers ...kgo.GroupBalancer) {
	r.Helper()
	assigned := make(chan struct{}, 16)
	c, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumerGroup("kcagent-c"), kgo.ConsumeTopics("t"),
		kgo.Balancers(balancers...), kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(c.Close)
	select {
	case <-assigned:
	case <-time.After(20 * time.Second):
		r.Fatal("the foreign member got no partitions")
	}
}

func (r *rig) describe(group string) kmsg.DescribeGroupsResponseGroup {
	r.Helper()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(r.Context(), r.client)
	if err != nil {
		r.Fatal(err)
	}
	return resp.Groups[0]
}

// TestProbeFindsAnotherAssignor: a group whose members have no assignor in common with
// kcagent cannot be joined, and the error names their assignor. A member that supports both
// is no problem. The probe itself changes nothing in the group.
func TestProbeFindsAnotherAssignor(t *testing.T) {
	for _, c := range []struct {
		name      string
		balancers []kgo.GroupBalancer
		want      string
	}{
		{"range", []kgo.GroupBalancer{kgo.RangeBalancer()}, `group: join group kcagent-c: its members use assignor "range" and do not support assignor "sticky", which kcagent uses: `},
		{"range or sticky", []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.StickyBalancer()}, ""},
		{"sticky", []kgo.GroupBalancer{kgo.StickyBalancer()}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 1)
			r.foreign(c.balancers...)
			r.eventually("a stable group", func() (bool, any) { g := r.describe("kcagent-c"); return g.State == "Stable", g })
			before := r.describe("kcagent-c")
			if got := r.probed(""); !strings.HasPrefix(got, c.want) || got != "" && c.want == "" {
				t.Errorf("found %q, want %q", got, c.want)
			}
			if g := r.describe("kcagent-c"); g.State != "Stable" || len(g.Members) != 1 || g.Members[0].MemberID != before.Members[0].MemberID {
				t.Errorf("after the probe, the group is %+v", g)
			}
			if c.want == "" {
				return
			}
			r.edit("") // a running consumer reports the same
			failing := r.wantStatus(consumer.Failing)
			if e := *failing.LastError; !strings.HasPrefix("group: "+e, c.want) {
				t.Errorf("last error is %q", e)
			}
		})
	}
}

// TestProbeFindsAGroupThatIsNoConsumerGroup: such as the group of the workers of Kafka
// Connect.
func TestProbeFindsAGroupThatIsNoConsumerGroup(t *testing.T) {
	r := newRig(t, 1)
	r.memberOf("kcagent-c", "connect", "sessioned")
	want := `group: join group kcagent-c: its members are not consumers, their protocol type is "connect": choose another group: `
	if got := r.probed(""); !strings.HasPrefix(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// memberOf creates a member that sends no request after it has joined.
func (r *rig) memberOf(group, protocolType, protocol string) {
	r.Helper()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = group, protocolType, 45_000, 180_000
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{"t"}
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: protocol, Metadata: meta.AppendTo(nil)}}
	resp, err := join.RequestWith(r.Context(), r.client)
	if err == nil && resp.ErrorCode == kerr.MemberIDRequired.Code {
		join.MemberID = resp.MemberID
		resp, err = join.RequestWith(r.Context(), r.client)
	}
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		r.Fatal(err)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = group, resp.MemberID, resp.Generation
	sync.ProtocolType, sync.Protocol = &protocolType, &protocol
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: resp.MemberID}}
	if resp, err := sync.RequestWith(r.Context(), r.client); err != nil || resp.ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

// TestProbeFindsASessionTimeoutThatIsNotAllowed: whether the group exists or not, the error
// names the setting of the file and those of the brokers.
func TestProbeFindsASessionTimeoutThatIsNotAllowed(t *testing.T) {
	const want = "group: join group kcagent-c: session_timeout 45s is outside the limits of the brokers, " +
		"group.min.session.timeout.ms and group.max.session.timeout.ms: set session_timeout of cluster k to a value between them: "
	r := newRig(t, 1, kfake.GroupMaxSessionTimeout(20*time.Second))
	if got := r.probed(""); !strings.HasPrefix(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if got := r.probed(", session_timeout: 10s"); got != "" {
		t.Errorf("found %q", got)
	}
	if g := r.describe("kcagent-c"); g.State != "Dead" {
		t.Errorf("after the probe, the group is %+v", g)
	}
	r.edit("") // a running consumer reports the same
	failing := r.wantStatus(consumer.Failing)
	if e := *failing.LastError; !strings.Contains(e, "session_timeout 45s is outside the limits of the brokers") {
		t.Errorf("last error is %q", e)
	}
}

// TestProbeWithoutPermissionToDescribe: a group that may not be described is not a finding.
func TestProbeWithoutPermissionToDescribe(t *testing.T) {
	r := newRig(t, 1)
	r.foreign(kgo.RangeBalancer())
	r.cluster.ControlKey(int16(kmsg.DescribeGroups), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		resp := k.ResponseKind().(*kmsg.DescribeGroupsResponse)
		for _, name := range k.(*kmsg.DescribeGroupsRequest).Groups {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = name, kerr.GroupAuthorizationFailed.Code
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil, true
	})
	if got := r.probed(""); got != "" {
		t.Errorf("found %q", got)
	}
}

// TestProbeFindsAMissingPermissionToJoin: the permission to describe a group is not enough.
func TestProbeFindsAMissingPermissionToJoin(t *testing.T) {
	r := newRig(t, 1)
	r.cluster.ControlKey(int16(kmsg.JoinGroup), func(k kmsg.Request) (kmsg.Response, error, bool) {
		resp := k.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp, nil, true
	})
	if got := r.probed(""); !strings.HasPrefix(got, "group: join group kcagent-c: ") || !strings.Contains(got, "not authorized to access this group") {
		t.Errorf("found %q", got)
	}
}

// TestProbeWaitsForTheCoordinatorOfANewCluster: there is none until the brokers have
// created the topic of committed offsets.
func TestProbeWaitsForTheCoordinatorOfANewCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	var asked atomic.Int32
	r.cluster.ControlKey(int16(kmsg.FindCoordinator), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if asked.Add(1) > 3 {
			return nil, nil, false
		}
		resp := k.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp, nil, true
	})
	if got := r.probed(""); got != "" {
		t.Errorf("found %q", got)
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("the coordinator was looked up %d times, want 4", n)
	}
}

// TestProbeFindsAnAdvertisedAddressThatCannotBeReached: the bootstrap broker and the
// coordinator answer, but the advertised address of a leader has no listener.
func TestProbeFindsAnAdvertisedAddressThatCannotBeReached(t *testing.T) {
	r := newRig(t, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hole := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(hole)
	n, _ := strconv.Atoi(port)
	r.cluster.ControlKey(int16(kmsg.Metadata), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := k.(*kmsg.MetadataRequest)
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = 3, "127.0.0.1", int32(n)
		resp.Brokers = append(resp.Brokers, b)
		for _, t := range req.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = t.Topic
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Leader = 3
			topic.Partitions = append(topic.Partitions, p)
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	want := "topics: reach a leader of the topics: " + ofListener(3, hole) + " connect to " + hole + ": dial tcp " + hole + ": connect: connection refused"
	if got := r.probed(""); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestProbeFindsTheConsumerProtocol: brokers may or may not let classic members join a
// group of KIP-848; the error names the protocol.
func TestProbeFindsTheConsumerProtocol(t *testing.T) {
	r := newRig(t, 1)
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis = "kcagent-c", "AAAAAAAAAAAAAAAAAAAAAQ", 60_000
	beat.SubscribedTopicNames, beat.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if resp, err := beat.RequestWith(t.Context(), client); err != nil || resp.ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	for code, want := range map[*kerr.Error]string{
		kerr.UnknownMemberID: "",
		kerr.InconsistentGroupProtocol: "group: join group kcagent-c: its members use the consumer protocol of KIP-848 (group.protocol=consumer), " +
			"and the broker does not let a classic member join them: stop these members first, or choose another group: ",
	} {
		r.cluster.ControlKey(int16(kmsg.JoinGroup), func(k kmsg.Request) (kmsg.Response, error, bool) {
			resp := k.ResponseKind().(*kmsg.JoinGroupResponse)
			resp.ErrorCode = code.Code
			return resp, nil, true
		})
		if got := r.probed(""); !strings.HasPrefix(got, want) || got != "" && want == "" {
			t.Errorf("%v: found %q, want %q", code, got, want)
		}
	}
}

// TestProbeOfManyGroupsNeedsFewRequests: the groups of one coordinator share a few
// requests.
func TestProbeOfManyGroupsNeedsFewRequests(t *testing.T) {
	r := newRig(t, 1)
	counts := map[kmsg.Key]func(string) int{}
	for _, key := range []kmsg.Key{kmsg.DescribeGroups, kmsg.ConsumerGroupDescribe, kmsg.JoinGroup, kmsg.FindCoordinator} {
		counts[key] = r.countRequests(key)
	}
	const groups = 100
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], sink: {stdout: {}}}\nconsumers:\n", r.cluster.ListenAddrs()[0])
	for i := range groups {
		text += fmt.Sprintf("- {name: c%d}\n", i)
	}
	for _, f := range precheck.Probe(t.Context(), testkit.Parse(t, text).Consumers) {
		t.Fatalf("%s: %v", f.Consumer, f.Err)
	}
	for key, count := range counts {
		if n := count("all"); key != kmsg.FindCoordinator && n > groups/4 {
			t.Errorf("%d requests of kind %d", n, key)
		}
	}
}
