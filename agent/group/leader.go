package group

import (
	"sync/atomic"

	"github.com/IBM/sarama"
)

// A leaderStrategy assigns partitions to members. sarama calls it only while the member leads
// its group, with the topics of all members.
type leaderStrategy struct {
	sarama.BalanceStrategy
	planned map[string]int // of the last Plan; used by the goroutine that joins
	last    atomic.Pointer[assignment]
}

// An assignment is what a leader assigned to the members of a generation.
type assignment struct {
	generation int32
	partitions map[string]int // how many each topic had
}

// Plan implements [sarama.BalanceStrategy].
func (s *leaderStrategy) Plan(members map[string]sarama.ConsumerGroupMemberMetadata, topics map[string][]int32) (sarama.BalanceStrategyPlan, error) {
	s.planned = make(map[string]int, len(topics))
	for t, ids := range topics {
		s.planned[t] = len(ids)
	}
	return s.BalanceStrategy.Plan(members, topics)
}

// AssignmentData implements [sarama.BalanceStrategy].
func (s *leaderStrategy) AssignmentData(member string, topics map[string][]int32, generation int32) ([]byte, error) {
	s.last.Store(&assignment{generation, s.planned})
	return s.BalanceStrategy.AssignmentData(member, topics, generation)
}

// Assigned returns how many partitions each topic of the group had, of whichever member, when
// this member assigned them for a generation. It returns nil if another member did.
func (c *Client) Assigned(generation int32) map[string]int {
	if a := c.leader.last.Load(); a != nil && a.generation == generation {
		return a.partitions
	}
	return nil
}
