package kafkatest

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Committed returns a group's committed offsets in a topic, by partition, without the
// partitions that have none.
func (c *Cluster) Committed(t testing.TB, group, topic string) map[int32]int64 {
	t.Helper()
	req, g := kmsg.NewPtrOffsetFetchRequest(), kmsg.NewOffsetFetchRequestGroup()
	g.Group = group // no topics request all that have an offset
	req.Groups = append(req.Groups, g)
	committed := make(map[int32]int64)
	Request(t, c, "committed offsets of "+group, req, func(r *kmsg.OffsetFetchResponse) error {
		var errs []error
		for _, got := range r.Groups {
			errs = append(errs, code(got.ErrorCode))
			for _, tp := range got.Topics {
				for _, p := range tp.Partitions {
					errs = append(errs, code(p.ErrorCode))
					if tp.Topic == topic && p.Offset >= 0 {
						committed[p.Partition] = p.Offset
					}
				}
			}
		}
		return first(errs)
	})
	return committed
}

// ResetOffsets changes the committed offsets of a group without members, as
// kafka-consumer-groups --reset-offsets does.
func (c *Cluster) ResetOffsets(t testing.TB, group, topic string, offsets map[int32]int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	reset := kmsg.NewOffsetCommitRequestTopic()
	reset.Topic = topic
	for p, offset := range offsets {
		block := kmsg.NewOffsetCommitRequestTopicPartition()
		block.Partition, block.Offset, block.Metadata = p, offset, kmsg.StringPtr("")
		reset.Partitions = append(reset.Partitions, block)
	}
	req.Topics = append(req.Topics, reset)
	Request(t, c, "reset offsets of "+group, req, func(r *kmsg.OffsetCommitResponse) error {
		var errs []error
		for _, got := range r.Topics {
			for _, p := range got.Partitions {
				errs = append(errs, code(p.ErrorCode))
			}
		}
		return first(errs)
	})
}

// A Group is a consumer group as its coordinator describes it.
type Group struct {
	State   string   // such as Stable or Empty; Dead if the group does not exist
	Members []string // member ids
}

// Group describes a consumer group.
func (c *Cluster) Group(t testing.TB, group string) Group {
	t.Helper()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	var g Group
	Request(t, c, "describe group "+group, req, func(r *kmsg.DescribeGroupsResponse) error {
		got := r.Groups[0]
		err := code(got.ErrorCode)
		if errors.Is(err, kerr.GroupIDNotFound) {
			g = Group{State: "Dead"}
			return nil
		}
		g = Group{State: got.State}
		for _, m := range got.Members {
			g.Members = append(g.Members, m.MemberID)
		}
		return err
	})
	return g
}

// Evict removes every member from a group, as the end of their sessions would. Without it,
// a test waits until the sessions of a killed process end.
func (c *Cluster) Evict(t testing.TB, group string) {
	t.Helper()
	if members := c.Group(t, group).Members; len(members) > 0 {
		c.Leave(t, group, members...)
	}
}

// Leave removes members from a group. A member that is not in the group is not an error.
func (c *Cluster) Leave(t testing.TB, group string, members ...string) {
	t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for _, id := range members {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID = id
		req.Members = append(req.Members, m)
	}
	Request(t, c, "remove members from group "+group, req, func(r *kmsg.LeaveGroupResponse) error {
		errs := []error{code(r.ErrorCode)}
		for _, m := range r.Members {
			if err := code(m.ErrorCode); !errors.Is(err, kerr.UnknownMemberID) {
				errs = append(errs, err)
			}
		}
		return first(errs)
	})
}

// RemoveStatic removes a static member from a group by its instance ID, as an admin client
// does (removeMembersFromConsumerGroup of the Java client).
func (c *Cluster) RemoveStatic(t testing.TB, group, instance string) {
	t.Helper()
	req, m := kmsg.NewPtrLeaveGroupRequest(), kmsg.NewLeaveGroupRequestMember()
	m.InstanceID = &instance
	req.Group, req.Members = group, append(req.Members, m)
	Request(t, c, "remove "+instance+" from group "+group, req, func(r *kmsg.LeaveGroupResponse) error {
		errs := []error{code(r.ErrorCode)}
		for _, m := range r.Members {
			errs = append(errs, code(m.ErrorCode))
		}
		return first(errs)
	})
}

// Coordinator returns the id of the broker that coordinates a group.
func (c *Cluster) Coordinator(t testing.TB, group string) int {
	t.Helper()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = group, []string{group}
	var id int32
	Request(t, c, "coordinator of "+group, req, func(r *kmsg.FindCoordinatorResponse) error {
		if len(r.Coordinators) == 0 {
			return kerr.CoordinatorNotAvailable
		}
		id = r.Coordinators[0].NodeID
		return code(r.Coordinators[0].ErrorCode)
	})
	return int(id)
}
