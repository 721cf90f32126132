package group

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestWaitingJoinNamesOtherMembers: an error names a few of the members: first members of
// other programs, and never our own.
func TestWaitingJoinNamesOtherMembers(t *testing.T) {
	member := func(id, client, host string) kmsg.DescribeGroupsResponseGroupMember {
		return kmsg.DescribeGroupsResponseGroupMember{MemberID: id, ClientID: client, ClientHost: host}
	}
	own, agent, java := member("own", "kcagent/c", "/10.0.0.1"), member("a", "kcagent/c", "/10.0.0.2"), member("b", "x", "/10.0.0.7")
	const ends = "; the rebalance ends when that is done, or after the rebalance timeout"
	for _, c := range []struct {
		state   string
		members []kmsg.DescribeGroupsResponseGroupMember
		want    string
	}{
		{"PreparingRebalance", []kmsg.DescribeGroupsResponseGroupMember{own, java}, `waiting for 1 member to rejoin: client "x" at /10.0.0.7` + ends},
		{"PreparingRebalance", []kmsg.DescribeGroupsResponseGroupMember{agent, own, java}, `waiting for members to rejoin, at least one of 2: client "x" at /10.0.0.7, client "kcagent/c" at /10.0.0.2` + ends},
		{"PreparingRebalance", []kmsg.DescribeGroupsResponseGroupMember{java, java, java, java, java}, `waiting for members to rejoin, at least one of 5: client "x" at /10.0.0.7, client "x" at /10.0.0.7, client "x" at /10.0.0.7, and 2 more` + ends},
		{"PreparingRebalance", []kmsg.DescribeGroupsResponseGroupMember{own}, "waiting for the other members to rejoin" + ends},
		{"AwaitingSync", []kmsg.DescribeGroupsResponseGroupMember{own, java}, `waiting for the leader of the group to assign the partitions: it is one of client "x" at /10.0.0.7` + ends},
		{"CompletingRebalance", []kmsg.DescribeGroupsResponseGroupMember{own, java}, `waiting for the leader of the group to assign the partitions: it is one of client "x" at /10.0.0.7` + ends},
	} {
		if got := waitsFor(kmsg.DescribeGroupsResponseGroup{State: c.state, Members: c.members}, "own", nil); got != c.want {
			t.Errorf("%s of %d: %q, want %q", c.state, len(c.members), got, c.want)
		}
		if !rebalancing(c.state) {
			t.Errorf("%s does not count as a rebalance", c.state)
		}
	}
}

// TestWaitingJoinOfAStaticMemberDoesNotNameItself: it does not know its member id before its first
// join is answered.
func TestWaitingJoinOfAStaticMemberDoesNotNameItself(t *testing.T) {
	instance, other := "host-1", "host-2"
	group := kmsg.DescribeGroupsResponseGroup{State: "PreparingRebalance", Members: []kmsg.DescribeGroupsResponseGroupMember{
		{MemberID: "own", InstanceID: &instance, ClientID: "kcagent/c", ClientHost: "/10.0.0.1"},
		{MemberID: "a", InstanceID: &other, ClientID: "kcagent/c", ClientHost: "/10.0.0.2"},
	}}
	const want = `waiting for 1 member to rejoin: client "kcagent/c" at /10.0.0.2; the rebalance ends when that is done, or after the rebalance timeout`
	if got := waitsFor(group, "", &instance); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
