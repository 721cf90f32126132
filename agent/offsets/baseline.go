package offsets

import (
	"kcagent/sink"
)

// A Baseline distinguishes the partitions that the start policy applies to from
// those added later. The start policy is for a group without committed offsets. A
// partition or a topic that is created later has none either, but to start there at the
// end would skip what was produced before the group noticed it. So the number of
// partitions that a topic had when the group first read it is part of the commit metadata.
//
// Only the goroutine that keeps the consumer a member of its group uses a baseline. The
// zero value is empty.
type Baseline struct {
	cluster    string           // id of the cluster that all of it is about; "" if unknown
	pattern    string           // topics_regex that the subscribed topics match; "" if they are named
	subscribed map[string]bool  // topics of the last generation; nil before the first
	addedLater map[string]bool  // by topic: whether it was created after the group started, as far as known
	initial    map[string]int32 // by topic: how many partitions it had when the group first read it, as far as known
	awaited    map[string]bool  // topics that did not exist when the group committed
	recreated  map[string]bool  // topics that were recreated in the last generation
}

// Subscribe records the topics of a generation. A topic that appears under the same
// pattern was created later. One that an edit added was not, unless it is among awaited:
// the pre-check of the edit did not find it.
func (b *Baseline) Subscribe(pattern string, topics []string, awaited map[string]bool) {
	now := make(map[string]bool, len(topics))
	for _, t := range topics {
		now[t] = true
		if _, known := b.addedLater[t]; !known && b.subscribed != nil && !b.subscribed[t] {
			b.setAddedLater(t, pattern != "" && pattern == b.pattern || awaited[t])
		}
	}
	b.pattern, b.subscribed = pattern, now
}

// TopicMissing records that a topic does not exist: if it exists in future, it was created
// later.
func (b *Baseline) TopicMissing(topic string) { b.setAddedLater(topic, true) }

// NothingMatched records that no topic matches pattern: a topic that matches it in future
// was created later.
func (b *Baseline) NothingMatched(pattern string) {
	b.pattern, b.subscribed = pattern, map[string]bool{}
}

// SetCluster records the cluster that the group is in, and forgets what another one said.
func (b *Baseline) SetCluster(id string) {
	if Differ(b.cluster, id) {
		b.addedLater, b.initial, b.recreated = nil, nil, nil
	}
	if id != "" {
		b.cluster = id
	}
}

func (b *Baseline) setAddedLater(topic string, later bool) {
	if b.addedLater == nil {
		b.addedLater = make(map[string]bool)
	}
	b.addedLater[topic] = later
	if later {
		b.limit(topic, 0)
	}
}

// A CommittedTopic is what the group has committed of a topic.
type CommittedTopic struct {
	Last    int32 // the highest partition that has an offset
	Initial int32 // the least number of partitions in the metadata; -1 if there is none
}

// Infer finds out how many partitions a topic had when the group first read it: 0 if the
// topic was created later. partitions is how many it has now, and all is what the group
// committed of all its topics.
func (b *Baseline) Infer(topic string, partitions int, all map[string]CommittedTopic) {
	t, read := all[topic]
	_, known := b.addedLater[topic]
	switch {
	case read && t.Initial >= 0:
		b.limit(topic, t.Initial)
	case read: // its metadata does not say
		b.limit(topic, t.Last+1)
	case b.addedLater[topic], b.awaited[topic], !known && b.pattern != "" && len(all) > 0: // created while the agent was down
		b.limit(topic, 0)
	default:
		b.limit(topic, int32(partitions))
	}
}

// limit records how many partitions a topic had, from one source. If sources differ, the
// higher number includes partitions that were added meanwhile.
func (b *Baseline) limit(topic string, partitions int32) {
	if b.initial == nil {
		b.initial = make(map[string]int32)
	}
	if was, known := b.initial[topic]; !known || partitions < was {
		b.initial[topic] = partitions
	}
}

// Known reports whether the baseline of a topic is known.
func (b *Baseline) Known(topic string) bool {
	_, ok := b.initial[topic]
	return ok
}

// AddCommit records what the metadata of a committed offset says.
func (b *Baseline) AddCommit(topic string, c Committed) {
	if !c.ByAgent {
		return
	}
	b.Await(c.Meta)
	if c.Meta.Partitions >= 0 {
		b.limit(topic, c.Meta.Partitions)
	}
}

// Await records the awaited topics of a commit.
func (b *Baseline) Await(m Metadata) {
	for _, t := range m.awaited() {
		if b.awaited == nil {
			b.awaited = make(map[string]bool)
		}
		b.awaited[t] = true
	}
}

// ClearAwaited forgets the awaited topics of former commits.
func (b *Baseline) ClearAwaited() { b.awaited = nil }

// LaterTopics returns the topics that were created after the group started, and of which
// nothing may be committed yet. Until something is, the commits of other topics must name
// them.
func (b *Baseline) LaterTopics(topics []string) (later []string) {
	for _, t := range topics {
		if b.awaited[t] || b.addedLater[t] {
			later = append(later, t)
		}
	}
	return later
}

// Recreate records that a topic was deleted and created again: all its partitions were
// added later.
func (b *Baseline) Recreate(topic string) {
	if b.recreated == nil {
		b.recreated = make(map[string]bool)
	}
	b.recreated[topic] = true
	b.limit(topic, 0)
}

// ClearRecreated forgets which topics were recreated, once a generation has used it.
func (b *Baseline) ClearRecreated() { b.recreated = nil }

// Partition returns what is known of a partition. initial is how many partitions its topic
// had when the group first read it, -1 if unknown.
func (b *Baseline) Partition(tp sink.TopicPartition) (initial int32, addedLater, recreated bool) {
	initial, known := b.initial[tp.Topic]
	if !known {
		initial = -1
	}
	return initial, known && tp.Partition >= initial, b.recreated[tp.Topic]
}
