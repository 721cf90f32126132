package offsets

import (
	"testing"

	"kcagent/sink"
)

// TestMemberIDShowsUninterruptedMembership: the membership was not interrupted as
// long as the member id is the same.
func TestMemberIDShowsUninterruptedMembership(t *testing.T) {
	var h Held
	p0, p1 := sink.TopicPartition{Topic: "t"}, sink.TopicPartition{Topic: "t", Partition: 1}
	for i, c := range []struct {
		tp     sink.TopicPartition
		member string
		want   bool
	}{
		{p0, "m1", false},
		{p1, "m1", false},
		{p0, "m1", true},
		{p0, "m2", false}, // the coordinator has removed m1
		{p1, "m2", false},
		{p1, "m2", true},
	} {
		if got := h.Hold(c.tp, c.member); got != c.want {
			t.Errorf("assignment %d: %v, want %v", i, got, c.want)
		}
	}
}
