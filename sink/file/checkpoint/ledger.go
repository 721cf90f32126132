package checkpoint

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"

	"kcagent/sink"
)

// A Ledger says which records the files of a path hold. It includes records that the durable
// checkpoint does not cover yet. The mutex of the writer guards it.
type Ledger struct {
	ID            string                                 // distinguishes the ledger in the commit metadata of the group
	Entries       map[sink.TopicPartition]*sink.Position // pointers: a map has room for eight values at least
	Version       int64                                  // incremented by each change
	StoredVersion int64                                  // the version that the durable checkpoint covers
}

// NewLedger returns an empty ledger with a unique ID.
func NewLedger() Ledger {
	return Ledger{ID: rand.Text(), Entries: make(map[sink.TopicPartition]*sink.Position)}
}

// Restore returns the ledger of a checkpoint.
func Restore(c *Checkpoint) Ledger {
	l := NewLedger()
	l.ID = c.Ledger
	for _, t := range c.Topics {
		for p, at := range t.Partitions {
			l.Entries[sink.TopicPartition{Topic: t.Topic, Partition: p}] = &sink.Position{Next: at.Next, Lineage: at.Lineage, Topic: t.Identity, Epoch: at.Epoch}
		}
	}
	return l
}

// Position returns the entry of a partition. Without one, the position has the cluster of
// other entries.
func (l *Ledger) Position(tp sink.TopicPartition) sink.Position {
	if p, ok := l.Entries[tp]; ok {
		return *p
	}
	for _, p := range l.Entries {
		if p.Topic.Brokers != "" {
			return sink.Position{Next: -1, Topic: sink.Identity{Cluster: p.Topic.Cluster, Brokers: p.Topic.Brokers}}
		}
	}
	return sink.Position{Next: -1}
}

// Adopt sets the entry of a partition, and the ID of the ledger.
func (l *Ledger) Adopt(tp sink.TopicPartition, id string, p sink.Position) {
	if old, ok := l.Entries[tp]; ok && *old == p && id == l.ID {
		return
	}
	l.ID, l.Entries[tp] = id, &p
	l.Version++
}

// Advance moves the position of a partition to the offset after a chunk.
func (l *Ledger) Advance(c sink.Chunk) {
	p, known := l.Entries[c.TopicPartition]
	switch {
	case !known:
		p = new(sink.Position)
		l.Entries[c.TopicPartition] = p
	case c.Empty() && p.Next == c.Next:
		return
	}
	p.Next, p.Epoch = c.Next, c.Epoch
	l.Version++
}

// A Snapshot is a copy of a ledger at a moment.
type Snapshot struct {
	ID      string
	Topics  []TopicState
	Version int64
}

// Snapshot returns a copy of the ledger, in the order in which a checkpoint stores it.
func (l *Ledger) Snapshot() Snapshot {
	type key struct {
		topic string
		sink.Identity
	}
	marks := make(map[key]*TopicState)
	for tp, at := range l.Entries {
		k := key{tp.Topic, at.Topic}
		t := marks[k]
		if t == nil {
			t = &TopicState{Topic: tp.Topic, Identity: at.Topic, Partitions: make(map[int32]PartitionState)}
			marks[k] = t
		}
		t.Partitions[tp.Partition] = PartitionState{at.Next, at.Lineage, at.Epoch}
	}
	s := Snapshot{ID: l.ID, Version: l.Version, Topics: make([]TopicState, 0, len(marks))}
	keys := slices.SortedFunc(maps.Keys(marks), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Identity.Topic, b.Identity.Topic))
	})
	for _, k := range keys {
		s.Topics = append(s.Topics, *marks[k])
	}
	return s
}
