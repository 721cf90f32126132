package agent

import "testing"

// TestDeletedTopicDelaysNoOtherPlan: the plan of a topic that was deleted is not committed, because its
// id cannot be confirmed. The plans of other topics are.
func TestDeletedTopicDelaysNoOtherPlan(t *testing.T) {
	r, p := newPlannedRig(t, 1, 2)
	r.makeTopic("u")
	r.edit(", topics: [t, u]")
	r.produce(0, "a")
	r.produceTo("u", "b")
	r.eventually("reading the records", func() (bool, any) { c := r.counters(); return c.Records == 2, c })
	r.dropTopic("u")
	r.wantError("u/0")
	r.edit(", topics: [t, u], state: paused") // publishes what is left
	r.wantObjects(p.bucket, "t/0:0-0")
	r.makeTopic("u") // the records of the former one are gone
}
