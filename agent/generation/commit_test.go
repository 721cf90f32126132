package generation

import (
	"testing"

	"kcagent/sink"
)

// A planless sink publishes by plan and holds nothing, as after Resume.
type planless struct{ sink.Sink }

func (planless) Plan(sink.TopicPartition, sink.Position) sink.Commit {
	return sink.Commit{Position: sink.Position{Next: -1}}
}

// TestPartitionWithoutPlanIsNotCommitted: while the sink has no position of a partition,
// the group may have a plan that a commit would erase.
func TestPartitionWithoutPlanIsNotCommitted(t *testing.T) {
	f := &flusher{env: &Env{Sink: planless{}}}
	p := newPartition(sink.TopicPartition{Topic: "t"})
	points := map[*Partition]flushPoint{p: {planned: true, pos: sink.Position{Next: 5}}}
	if commits := f.commitPoints(points); len(commits) > 0 || len(points) > 0 || f.pending || p.flushSucceeded {
		t.Errorf("commits %+v, points %+v, pending %t", commits, points, f.pending)
	}
}
