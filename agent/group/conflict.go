package group

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/kafka"
	"kcagent/config"
)

// A Kind is what the members of a group use, as far as it is known.
type Kind struct {
	protocolType string // "consumer" for consumers
	assignor     string // "" while the group is not stable
	modern       bool   // the consumer protocol of KIP-848
}

// KindOf returns the kind of a described group. modern says that the group uses the consumer
// protocol of KIP-848, which the description does not have.
func KindOf(g kmsg.DescribeGroupsResponseGroup, modern bool) Kind {
	return Kind{g.ProtocolType, g.Protocol, modern}
}

// ExplainConflict explains why a member of kcagent cannot join a group. The coordinator reports
// only that the protocols are inconsistent.
func ExplainConflict(group string, kind Kind, err error) error {
	var why string
	switch {
	case kind.modern:
		why = "its members use the consumer protocol of KIP-848 (group.protocol=consumer), and the broker does not let a classic member join them: " +
			"stop these members first, or choose another group"
	case kind.protocolType != "" && kind.protocolType != ConsumerProtocol:
		why = fmt.Sprintf("its members are not consumers, their protocol type is %q: choose another group", kind.protocolType)
	default:
		uses := "do not support"
		if kind.assignor != "" {
			uses = fmt.Sprintf("use assignor %q and do not support", kind.assignor)
		}
		why = fmt.Sprintf("its members %s assignor %q, which kcagent uses: stop these members first, "+
			"add org.apache.kafka.clients.consumer.StickyAssignor to their partition.assignment.strategy, or choose another group", uses, Assignor)
	}
	return fmt.Errorf("join group %s: %s: %w", group, why, err)
}

// WrongSession explains how to correct a session timeout.
func WrongSession(spec *config.Consumer, err error) error {
	return fmt.Errorf("session_timeout %s is outside the limits of the brokers, group.min.session.timeout.ms and group.max.session.timeout.ms: "+
		"set session_timeout of %s to a value between them: %w", SessionTimeout(spec), kafka.ClusterName(spec), err)
}

// ExplainJoin explains the coordinator's error for a join of the consumer's group; nil if the
// error needs no explanation.
func (c *Client) ExplainJoin(spec *config.Consumer, err error) error {
	switch err {
	case sarama.ErrInvalidSessionTimeout:
		return fmt.Errorf("join group %s: %w", c.group, WrongSession(spec, err))
	case sarama.ErrInconsistentGroupProtocol:
		kind := Kind{}
		if g, e := c.Describe(); e == nil {
			// DescribeGroups does not show the members of KIP-848.
			kind = Kind{protocolType: g.ProtocolType, assignor: g.Protocol, modern: len(g.Members) == 0}
		}
		return ExplainConflict(c.group, kind, err)
	}
	return nil
}
