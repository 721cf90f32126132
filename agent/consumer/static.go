package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/generation"
	"kcagent/logkey"
	"kcagent/retry"
)

// A static member (KIP-345) has a name, instance_id, that it keeps over restarts. The
// coordinator gives a member of that name its former assignment back, without a rebalance,
// as long as the session timeout has not passed. So the end of the agent must not leave the
// group, but the end of the consumer must.

const (
	// instanceCheckInterval is how often a member checks whether its instance_id is free,
	// with jitter.
	instanceCheckInterval = 10 * time.Second
	// firstAssignmentCheck is how soon a generation checks whether every partition is
	// assigned. Partitions that were added while the agent was down need not wait longer.
	firstAssignmentCheck = 2 * time.Second
)

// instance is the member's instance_id; nil if it has none.
func (m *member) instance() *string {
	if m.spec.InstanceID == "" {
		return nil
	}
	return &m.spec.InstanceID
}

// leaveAsStatic removes a static member from its group, which sarama does not do. It does nothing
// for other members.
func (m *member) leaveAsStatic() error {
	if m.instance() == nil {
		return nil
	}
	return m.leaveGroup()
}

// recordJoin records whether the coordinator may have the member under an id that is not known here.
func (m *member) recordJoin(setUp, sent bool, err error) {
	if _, answered := errors.AsType[sarama.KError](err); setUp || answered {
		m.unanswered = false
	} else if sent {
		m.unanswered = true
	}
}

// leaveGroup removes the member of the last generation from its group. sarama receives an error when it
// joins again. The request has the member id of a static member, too: without it, the coordinator
// would remove another member that has taken the instance_id meanwhile. After a join that was not
// answered, the id is not known. But no other member has taken the instance_id then: the coordinator
// would have answered the join with an error. If the network has lost that response, the other member
// is removed, and joins again.
func (m *member) leaveGroup() error {
	id := m.id.Load()
	switch {
	case m.unanswered && m.instance() != nil:
		id = new(string)
	case id == nil:
		return nil
	}
	coordinator, err := m.client.Coordinator(m.spec.Group)
	if err != nil {
		return err
	}
	resp, err := coordinator.LeaveGroup(&sarama.LeaveGroupRequest{
		Version: 4, GroupId: m.spec.Group, // version 4 came with Kafka 2.4; earlier ones have one MemberId, and cannot name an instance
		MemberId: *id,
		Members:  []sarama.MemberIdentity{{MemberId: *id, GroupInstanceId: m.instance()}},
	})
	switch {
	case err != nil:
		return err
	case resp.Err != sarama.ErrNoError:
		return leftAlready(resp.Err)
	}
	for _, r := range resp.Members {
		if err := leftAlready(r.Err); err != nil {
			return err
		}
	}
	return nil
}

// leftAlready ignores errors that say that the member is not in the group: its session has
// timed out, or another member has taken its instance_id.
func leftAlready(code sarama.KError) error {
	switch code {
	case sarama.ErrNoError, sarama.ErrUnknownMemberId, sarama.ErrFencedInstancedId:
		return nil
	}
	return code
}

// waitForInstanceID waits until no other member has the instance_id. Until then a join would
// fence the other member, which would do the same.
func (m *member) waitForInstanceID(ctx context.Context) {
	for {
		fault := fmt.Errorf("join group %s: another member has taken instance_id %s: give each agent one of its own; this one waits until it is free",
			m.spec.Group, m.spec.InstanceID)
		group, err := m.client.Describe()
		switch holder := holderOf(group, m.spec.InstanceID); {
		case err != nil:
			fault = fmt.Errorf("%w (describing the group failed: %w)", fault, err)
		case holder == nil:
			return
		default:
			fault = fmt.Errorf("%w (it is %s at %s)", fault, holder.ClientId, holder.ClientHost)
		}
		m.report(generation.OriginGroup, fault)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry.Jitter(instanceCheckInterval)):
		}
	}
}

// holderOf returns the member of a group that has an instance_id; nil if there is none.
func holderOf(group *sarama.GroupDescription, instance string) *sarama.GroupMemberDescription {
	if group == nil {
		return nil
	}
	for _, d := range group.Members {
		if d.GroupInstanceId != nil && *d.GroupInstanceId == instance {
			return d
		}
	}
	return nil
}

// checkAssignment ends the generation if a partition is assigned to no member. The leader of
// a group watches for new partitions. But the coordinator does not report to a restarted static
// leader that it is the leader (KAFKA-13435). Then no member watches, and each gets its
// former assignment, although partitions were added meanwhile.
func (j *joinAttempt) checkAssignment() {
	group, err := j.member.client.Describe()
	if err != nil || group.State != "Stable" {
		return
	}
	if topic, id, ok := j.unassigned(group); ok {
		j.member.log.Info("partition is assigned to no member of the group", logkey.Topic, topic, logkey.Partition, id)
		j.abandon(errUnassignedPartition)
	}
}

// unassigned returns a partition of the subscribed topics that no member of the group has.
func (j *joinAttempt) unassigned(group *sarama.GroupDescription) (topic string, id int32, ok bool) {
	assigned := make(map[string]map[int32]bool)
	for _, d := range group.Members {
		a, err := d.GetMemberAssignment()
		if err != nil {
			return "", 0, false // a client of another kind, whose leader watches for itself
		}
		if a == nil {
			continue
		}
		for t, ids := range a.Topics {
			if assigned[t] == nil {
				assigned[t] = make(map[int32]bool)
			}
			for _, id := range ids {
				assigned[t][id] = true
			}
		}
	}
	for _, t := range j.generation.Topics {
		ids, err := j.member.cluster.Partitions(t)
		if err != nil {
			continue
		}
		for _, id := range ids {
			if !assigned[t][id] {
				return t, id, true
			}
		}
	}
	return "", 0, false
}
