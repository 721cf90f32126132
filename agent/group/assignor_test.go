package group

import (
	"maps"
	"slices"
	"testing"

	"github.com/IBM/sarama"
)

// TestOnlyTheLeaderKnowsTheAssignment: a member knows the topics of all members in a generation
// for which it has assigned the partitions, and in no other. Planning alone, after which the
// group may have started to rebalance again, is not enough.
func TestOnlyTheLeaderKnowsTheAssignment(t *testing.T) {
	c := &Client{assignor: assignor{BalanceStrategy: sarama.NewBalanceStrategySticky()}}
	members := map[string]sarama.ConsumerGroupMemberMetadata{"own": {Topics: []string{"a"}}, "other": {Topics: []string{"b"}}}
	want := func(when string, generation int32, topics map[string]int) {
		t.Helper()
		if got := c.Assigned(generation); !maps.Equal(got, topics) {
			t.Errorf("%s: the assignment of generation %d is of %v, want %v", when, generation, got, topics)
		}
	}
	plan := func(topics map[string][]int32) {
		t.Helper()
		if _, err := c.assignor.Plan(members, topics); err != nil {
			t.Fatal(err)
		}
	}
	want("at the start", 1, nil)
	plan(map[string][]int32{"a": {0}, "b": {0, 1}})
	want("after a plan", 1, nil)
	if _, err := c.assignor.AssignmentData("own", nil, 1); err != nil {
		t.Fatal(err)
	}
	first := map[string]int{"a": 1, "b": 2}
	want("after the assignment", 1, first)
	want("as a follower", 2, nil)
	plan(map[string][]int32{"a": {0, 1}})
	want("during the next join", 1, first)
	if _, err := c.assignor.AssignmentData("own", nil, 3); err != nil {
		t.Fatal(err)
	}
	want("as the leader again", 3, map[string]int{"a": 2})
	if name := c.assignor.Name(); name != Assignor {
		t.Errorf("the assignor is %q", name)
	}
}

// TestSaramaDoesNotKnowTheAssignment: the session of a generation has the assigned partitions in
// order, and sarama has none of them. A generation without an assignment has no partitions, whatever
// the one before had.
func TestSaramaDoesNotKnowTheAssignment(t *testing.T) {
	c := &Client{assignor: assignor{BalanceStrategy: sarama.NewBalanceStrategySticky()}}
	known := map[string][]int32{"a": {2, 0, 1}, "b": {0}}
	data := []byte("kept for the next join")
	assigned := &sarama.ConsumerGroupMemberAssignment{Topics: known, UserData: data}
	c.assignor.OnAssignment(assigned, 7)
	if len(known) > 0 || string(assigned.UserData) != string(data) {
		t.Errorf("sarama knows %v, with the data %q", known, assigned.UserData)
	}
	for _, generation := range []int32{7, 7, 8} {
		claims := c.Session(fakeSession{generation: generation}).Claims()
		switch {
		case generation == 7 && known != nil:
			if len(claims) != 2 || !slices.Equal(claims["a"], []int32{0, 1, 2}) || !slices.Equal(claims["b"], []int32{0}) {
				t.Errorf("the claims are %v", claims)
			}
			known = nil
		case len(claims) > 0:
			t.Errorf("a generation without an assignment has the claims %v", claims)
		}
	}
	c.assignor.OnAssignment(&sarama.ConsumerGroupMemberAssignment{Topics: map[string][]int32{"a": {0}}}, 8)
	if claims := c.Session(fakeSession{generation: 9}).Claims(); len(claims) > 0 {
		t.Errorf("generation 9 has the claims %v of generation 8", claims)
	}
}

type fakeSession struct {
	sarama.ConsumerGroupSession
	generation int32
}

func (s fakeSession) GenerationID() int32 { return s.generation }
