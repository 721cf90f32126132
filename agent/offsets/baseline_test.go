package offsets

import (
	"testing"
)

func TestStartPolicyIgnoresLaterPartitions(t *testing.T) {
	none := map[string]CommittedTopic{}
	of := func(topic string, last int32) map[string]CommittedTopic {
		return map[string]CommittedTopic{topic: {last, -1}}
	}
	for name, c := range map[string]struct {
		did       func(b *Baseline)
		id        int32
		committed map[string]CommittedTopic
		want      bool
	}{
		"a new group":     {func(b *Baseline) { b.Subscribe("", []string{"t"}, nil) }, 3, none, false},
		"a new partition": {func(b *Baseline) { b.Subscribe("", []string{"t"}, nil) }, 3, of("t", 2), true},
		"a partition whose committed offset was deleted": {func(b *Baseline) { b.Subscribe("", []string{"t"}, nil) }, 1, of("t", 2), false},
		"a topic that an edit added": {func(b *Baseline) {
			b.Subscribe("", []string{"a"}, nil)
			b.Subscribe("", []string{"a", "t"}, nil)
		}, 0, of("a", 2), false},
		"a topic that was awaited when the group committed": {func(b *Baseline) {
			b.Await(Metadata{Awaits: "s,t"})
			b.Subscribe("", []string{"a", "t"}, nil)
		}, 0, of("a", 0), true},
		"a topic that was awaited, and read since": {func(b *Baseline) {
			b.Await(Metadata{Awaits: "t"})
			b.Subscribe("", []string{"t"}, nil)
		}, 1, map[string]CommittedTopic{"t": {0, 2}}, false},
		"a topic that the pre-check of an edit did not find": {func(b *Baseline) {
			b.Subscribe("", []string{"a"}, nil)
			b.Subscribe("", []string{"a", "t"}, map[string]bool{"t": true})
		}, 0, of("a", 2), true},
		"a topic that was missing":       {func(b *Baseline) { b.TopicMissing("t"); b.Subscribe("", []string{"t"}, nil) }, 0, none, true},
		"the first match of a new group": {func(b *Baseline) { b.Subscribe("t", []string{"t"}, nil) }, 0, none, false},
		"a match that appeared": {func(b *Baseline) {
			b.Subscribe("t", []string{"at"}, nil)
			b.Subscribe("t", []string{"at", "t"}, nil)
		}, 0, none, true},
		"a match that appeared when no topic matched": {func(b *Baseline) {
			b.NothingMatched("t")
			b.Subscribe("t", []string{"t"}, nil)
		}, 0, none, true},
		"a match that appeared while no agent was running": {func(b *Baseline) { b.Subscribe("t", []string{"at", "t"}, nil) }, 0, of("at", 0), true},
		"a match of an edited pattern": {func(b *Baseline) {
			b.Subscribe("at", []string{"at"}, nil)
			b.Subscribe("t", []string{"at", "t"}, nil)
		}, 0, of("at", 0), false},
		"a partition between the initial ones and another later one": {func(b *Baseline) { b.Subscribe("", []string{"t"}, nil) }, 1, map[string]CommittedTopic{"t": {2, 1}}, true},
		"an initial partition whose leader was down at first":        {func(b *Baseline) { b.Subscribe("", []string{"t"}, nil) }, 1, map[string]CommittedTopic{"t": {0, 2}}, false},
		"a topic that was recreated":                                 {func(b *Baseline) { b.Infer("t", 1, none); b.Recreate("t") }, 0, none, true},
		"a match that is deleted and created again": {func(b *Baseline) {
			b.Subscribe("t", []string{"t"}, nil)
			b.Subscribe("t", nil, nil)
			b.Subscribe("t", []string{"t"}, nil)
		}, 0, none, true},
		"a topic that was inferred before the first commit": {func(b *Baseline) { b.Subscribe("t", []string{"t"}, nil); b.Infer("t", 1, none) }, 0, of("at", 0), false},
	} {
		var b Baseline
		c.did(&b)
		if _, known := b.initial["t"]; !known {
			b.Infer("t", 4, c.committed)
		}
		if got := c.id >= b.initial["t"]; got != c.want {
			t.Errorf("%s: added later: %v", name, got)
		}
	}
}
