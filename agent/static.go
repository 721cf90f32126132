package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// A static member (KIP-345) has a name, instance_id, that stays over restarts: the
// coordinator gives a member of that name its former assignment back, without a
// rebalance, as long as the session timeout has not passed. So the end of the
// agent must not leave the group; the end of the consumer must.

const (
	// staticPause is how long a static member waits between looks at its group.
	staticPause = 5 * time.Second
	// firstLook is how soon in a generation it looks whether all is assigned.
	firstLook = 2 * time.Second
)

var errUnassigned = errors.New("partitions are assigned to nobody")

// instance is the member's name in its group; nil if it has none.
func (m *member) instance() *string {
	if m.spec.InstanceID == "" {
		return nil
	}
	return &m.spec.InstanceID
}

// leave takes a static member out of its group, which sarama does not do. It names
// the member by its own id, too: without that, it would take out another one that
// has got the name meanwhile.
func (m *member) leave() error {
	id := m.memberID.Load()
	if m.instance() == nil || id == nil {
		return nil
	}
	coordinator, err := m.client.Coordinator(m.spec.Group)
	if err != nil {
		return err
	}
	resp, err := coordinator.LeaveGroup(&sarama.LeaveGroupRequest{
		Version: 4, GroupId: m.spec.Group, // 4: Kafka 2.4, before which no request could name an instance
		Members: []sarama.MemberIdentity{{MemberId: *id, GroupInstanceId: m.instance()}},
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

// leftAlready drops what says that there was nobody to take out: the member's session
// has ended, or somebody else has its name by now.
func leftAlready(code sarama.KError) error {
	switch code {
	case sarama.ErrNoError, sarama.ErrUnknownMemberId, sarama.ErrFencedInstancedId:
		return nil
	}
	return code
}

// yield waits until nobody else has the member's name: to join again would fence
// the other one, which would do the same.
func (m *member) yield(ctx context.Context) {
	for {
		what := fmt.Errorf("join group %s: another member has taken instance_id %s: give each agent one of its own; this one waits until it is free",
			m.spec.Group, m.spec.InstanceID)
		group, err := m.client.describe()
		switch holder := holderOf(group, m.spec.InstanceID); {
		case err != nil:
			what = fmt.Errorf("%w (asking who it is failed: %w)", what, err)
		case holder == nil:
			return
		default:
			what = fmt.Errorf("%w (it is %s at %s)", what, holder.ClientId, holder.ClientHost)
		}
		m.report(originGroup, what)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(2 * staticPause)):
		}
	}
}

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

// watchAssignment ends the generation if nobody has one of its partitions. The
// leader of a group looks for new partitions, but a static leader that was
// restarted is not told that it is one (KAFKA-13435), so that the group has none
// that looks; and it is given its former assignment, whatever came meanwhile.
func (s *session) watchAssignment(ctx context.Context) {
	// What came while the agent was away need not wait for long.
	for pause := firstLook; ; pause = s.member.kafka.rematch {
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(pause)): // one member is the first to see it
		}
		group, err := s.client.describe()
		if err != nil || group.State != "Stable" {
			continue
		}
		if topic, id, ok := s.unassigned(group); ok {
			s.log.Info("a partition is assigned to no member of the group", "topic", topic, "partition", id)
			s.abandon(errUnassigned)
			return
		}
	}
}

// unassigned finds a partition of the session's topics that no member has.
func (s *session) unassigned(group *sarama.GroupDescription) (topic string, id int32, ok bool) {
	taken := make(map[string]map[int32]bool)
	for _, d := range group.Members {
		a, err := d.GetMemberAssignment()
		if err != nil {
			return "", 0, false // of another kind of client; it looks after itself
		}
		if a == nil {
			continue
		}
		for t, ids := range a.Topics {
			if taken[t] == nil {
				taken[t] = make(map[int32]bool)
			}
			for _, id := range ids {
				taken[t][id] = true
			}
		}
	}
	for _, t := range s.topics {
		ids, err := s.cluster.Partitions(t)
		if err != nil {
			continue
		}
		for _, id := range ids {
			if !taken[t][id] {
				return t, id, true
			}
		}
	}
	return "", 0, false
}
