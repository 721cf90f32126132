package group

import (
	"maps"
	"testing"

	"github.com/IBM/sarama"
)

// TestOnlyTheLeaderKnowsTheAssignment: a member knows the topics of all members in a generation
// for which it has assigned the partitions, and in no other. Planning alone, after which the
// group may have started to rebalance again, is not enough.
func TestOnlyTheLeaderKnowsTheAssignment(t *testing.T) {
	c := &Client{leader: leaderStrategy{BalanceStrategy: sarama.NewBalanceStrategySticky()}}
	members := map[string]sarama.ConsumerGroupMemberMetadata{"own": {Topics: []string{"a"}}, "other": {Topics: []string{"b"}}}
	want := func(when string, generation int32, topics map[string]int) {
		t.Helper()
		if got := c.Assigned(generation); !maps.Equal(got, topics) {
			t.Errorf("%s: the assignment of generation %d is of %v, want %v", when, generation, got, topics)
		}
	}
	plan := func(topics map[string][]int32) {
		t.Helper()
		if _, err := c.leader.Plan(members, topics); err != nil {
			t.Fatal(err)
		}
	}
	want("at the start", 1, nil)
	plan(map[string][]int32{"a": {0}, "b": {0, 1}})
	want("after a plan", 1, nil)
	if _, err := c.leader.AssignmentData("own", nil, 1); err != nil {
		t.Fatal(err)
	}
	first := map[string]int{"a": 1, "b": 2}
	want("after the assignment", 1, first)
	want("as a follower", 2, nil)
	plan(map[string][]int32{"a": {0, 1}})
	want("during the next join", 1, first)
	if _, err := c.leader.AssignmentData("own", nil, 3); err != nil {
		t.Fatal(err)
	}
	want("as the leader again", 3, map[string]int{"a": 2})
	if name := c.leader.Name(); name != Assignor {
		t.Errorf("the assignor is %q", name)
	}
}
