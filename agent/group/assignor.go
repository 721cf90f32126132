package group

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/IBM/sarama"
)

// An assignor assigns partitions to members while its own member leads the group, and keeps what
// its own member was assigned. The goroutine that joins uses it.
type assignor struct {
	sarama.BalanceStrategy
	planned map[string]int // of the last Plan
	last    atomic.Pointer[assignment]

	own        map[string][]int32 // assigned to the member; nil once a session has it
	generation int32              // of own
}

// An assignment is what a leader assigned to the members of a generation.
type assignment struct {
	generation int32
	partitions map[string]int // how many each topic had
}

// Plan implements [sarama.BalanceStrategy].
func (s *assignor) Plan(members map[string]sarama.ConsumerGroupMemberMetadata, topics map[string][]int32) (sarama.BalanceStrategyPlan, error) {
	s.planned = make(map[string]int, len(topics))
	for t, ids := range topics {
		s.planned[t] = len(ids)
	}
	return s.BalanceStrategy.Plan(members, topics)
}

// AssignmentData implements [sarama.BalanceStrategy].
func (s *assignor) AssignmentData(member string, topics map[string][]int32, generation int32) ([]byte, error) {
	s.last.Store(&assignment{generation, s.planned})
	return s.BalanceStrategy.AssignmentData(member, topics, generation)
}

// Assigned returns the number of partitions that each topic of the group had when this member, as
// the leader, assigned them for a generation. Topics of other members are included. It returns nil
// if another member was the leader. It is safe for concurrent use, and the map must not be changed.
func (c *Client) Assigned(generation int32) map[string]int {
	if a := c.assignor.last.Load(); a != nil && a.generation == generation {
		return a.partitions
	}
	return nil
}

// OnAssignment implements [sarama.OnAssignmentBalanceStrategy]. It takes the partitions away from
// sarama, which has the same map: sarama would request the committed offset of each of them
// alone, and start goroutines for each: two while the partition is not readable, seven while it
// is read.
func (s *assignor) OnAssignment(a *sarama.ConsumerGroupMemberAssignment, generation int32) {
	s.own, s.generation = maps.Clone(a.Topics), generation
	for _, ids := range s.own {
		slices.Sort(ids)
	}
	clear(a.Topics)
}

// Session returns the session of a generation with the partitions that are assigned to the
// member. It must be called once, by Setup.
func (c *Client) Session(s sarama.ConsumerGroupSession) sarama.ConsumerGroupSession {
	assigned := session{ConsumerGroupSession: s}
	if c.assignor.generation == s.GenerationID() {
		assigned.claims = c.assignor.own
	}
	c.assignor.own = nil
	return assigned
}

// A session has the partitions that sarama does not know of.
type session struct {
	sarama.ConsumerGroupSession
	claims map[string][]int32 // never changed
}

// Claims implements [sarama.ConsumerGroupSession].
func (s session) Claims() map[string][]int32 { return s.claims }

var _ sarama.OnAssignmentBalanceStrategy = (*assignor)(nil)
