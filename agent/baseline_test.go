package agent

import (
	"testing"
)

func TestStartPolicyIgnoresLaterPartitions(t *testing.T) {
	none := map[string]committedTopic{}
	of := func(topic string, last int32) map[string]committedTopic {
		return map[string]committedTopic{topic: {last, -1}}
	}
	for name, c := range map[string]struct {
		did       func(b *partitionBaseline)
		id        int32
		committed map[string]committedTopic
		want      bool
	}{
		"a new group":     {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 3, none, false},
		"a new partition": {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 3, of("t", 2), true},
		"a partition whose committed offset was deleted": {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 1, of("t", 2), false},
		"a topic that an edit added": {func(b *partitionBaseline) {
			b.subscribe("", []string{"a"}, nil)
			b.subscribe("", []string{"a", "t"}, nil)
		}, 0, of("a", 2), false},
		"a topic that was awaited when the group committed": {func(b *partitionBaseline) {
			b.await(commitMetadata{awaits: "s,t"})
			b.subscribe("", []string{"a", "t"}, nil)
		}, 0, of("a", 0), true},
		"a topic that was awaited, and read since": {func(b *partitionBaseline) {
			b.await(commitMetadata{awaits: "t"})
			b.subscribe("", []string{"t"}, nil)
		}, 1, map[string]committedTopic{"t": {0, 2}}, false},
		"a topic that the pre-check of an edit did not find": {func(b *partitionBaseline) {
			b.subscribe("", []string{"a"}, nil)
			b.subscribe("", []string{"a", "t"}, map[string]bool{"t": true})
		}, 0, of("a", 2), true},
		"a topic that was missing":       {func(b *partitionBaseline) { b.topicMissing("t"); b.subscribe("", []string{"t"}, nil) }, 0, none, true},
		"the first match of a new group": {func(b *partitionBaseline) { b.subscribe("t", []string{"t"}, nil) }, 0, none, false},
		"a match that appeared": {func(b *partitionBaseline) {
			b.subscribe("t", []string{"at"}, nil)
			b.subscribe("t", []string{"at", "t"}, nil)
		}, 0, none, true},
		"a match that appeared when no topic matched": {func(b *partitionBaseline) {
			b.nothingMatched("t")
			b.subscribe("t", []string{"t"}, nil)
		}, 0, none, true},
		"a match that appeared while no agent was running": {func(b *partitionBaseline) { b.subscribe("t", []string{"at", "t"}, nil) }, 0, of("at", 0), true},
		"a match of an edited pattern": {func(b *partitionBaseline) {
			b.subscribe("at", []string{"at"}, nil)
			b.subscribe("t", []string{"at", "t"}, nil)
		}, 0, of("at", 0), false},
		"a partition between the initial ones and another later one": {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 1, map[string]committedTopic{"t": {2, 1}}, true},
		"an initial partition whose leader was down at first":        {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 1, map[string]committedTopic{"t": {0, 2}}, false},
		"a topic that was recreated":                                 {func(b *partitionBaseline) { b.infer("t", 1, none); b.recreate("t") }, 0, none, true},
		"a match that is deleted and created again": {func(b *partitionBaseline) {
			b.subscribe("t", []string{"t"}, nil)
			b.subscribe("t", nil, nil)
			b.subscribe("t", []string{"t"}, nil)
		}, 0, none, true},
		"a topic that was inferred before the first commit": {func(b *partitionBaseline) { b.subscribe("t", []string{"t"}, nil); b.infer("t", 1, none) }, 0, of("at", 0), false},
	} {
		var b partitionBaseline
		c.did(&b)
		if _, known := b.initial["t"]; !known {
			b.infer("t", 4, c.committed)
		}
		if got := c.id >= b.initial["t"]; got != c.want {
			t.Errorf("%s: added later: %v", name, got)
		}
	}
}
