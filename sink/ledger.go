package sink

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"
)

// A ledger is which records a writer's files hold: what the durable checkpoint
// says, ahead of it by what is not safe yet. The writer's turn guards it.
type ledger struct {
	id      string // names the ledger in commit metadata
	entries map[TopicPartition]Position
	version int64 // grows with each change
	stored  int64 // the version that the durable checkpoint covers
}

// newLedger is an empty ledger with an id that no other has.
func newLedger() ledger {
	return ledger{id: rand.Text(), entries: make(map[TopicPartition]Position)}
}

// ledgerOf is the ledger that a checkpoint holds.
func ledgerOf(c *checkpoint) ledger {
	l := newLedger()
	l.id = c.Ledger
	for _, t := range c.Topics {
		for p, at := range t.Partitions {
			l.entries[TopicPartition{t.Topic, p}] = Position{Next: at.Next, Lineage: at.Lineage, Topic: t.Identity, Epoch: at.Epoch}
		}
	}
	return l
}

// position is the entry of a partition. Without one it names the cluster that others are from.
func (l *ledger) position(tp TopicPartition) Position {
	if p, ok := l.entries[tp]; ok {
		return p
	}
	for _, p := range l.entries {
		if p.Topic.Brokers != "" {
			return Position{Next: -1, Topic: Identity{Cluster: p.Topic.Cluster, Brokers: p.Topic.Brokers}}
		}
	}
	return Position{Next: -1}
}

// adopt sets the entry of a partition, and the ledger's id.
func (l *ledger) adopt(tp TopicPartition, id string, p Position) {
	if old, ok := l.entries[tp]; ok && old == p && id == l.id {
		return
	}
	l.id, l.entries[tp] = id, p
	l.version++
}

// advance moves a partition behind the records of a chunk.
func (l *ledger) advance(c Chunk) {
	p, known := l.entries[c.TopicPartition]
	if c.Empty() && known && p.Next == c.Next {
		return
	}
	p.Next, p.Epoch = c.Next, c.Epoch
	l.entries[c.TopicPartition] = p
	l.version++
}

// A snapshot is a ledger at a moment.
type snapshot struct {
	id      string
	topics  []topicMark
	version int64
}

func (l *ledger) snapshot() snapshot {
	type key struct {
		topic string
		Identity
	}
	marks := make(map[key]*topicMark)
	for tp, at := range l.entries {
		k := key{tp.Topic, at.Topic}
		t := marks[k]
		if t == nil {
			t = &topicMark{Topic: tp.Topic, Identity: at.Topic, Partitions: make(map[int32]partitionMark)}
			marks[k] = t
		}
		t.Partitions[tp.Partition] = partitionMark{at.Next, at.Lineage, at.Epoch}
	}
	s := snapshot{id: l.id, version: l.version, topics: make([]topicMark, 0, len(marks))}
	keys := slices.SortedFunc(maps.Keys(marks), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Identity.Topic, b.Identity.Topic))
	})
	for _, k := range keys {
		s.topics = append(s.topics, *marks[k])
	}
	return s
}
