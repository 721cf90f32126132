package sink

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
)

// An account is which records a writer's files hold: what its checkpoint says,
// ahead of the checkpoint by what is not safe yet. It is guarded by the
// writer's turn; last and stored by sink.flushing.
type account struct {
	owner   string // names it in committed metadata
	next    map[TopicPartition]int64
	topics  map[string]Identity
	renewed map[string]Identity // topics of which only another one of that name is known
	version int64               // grows with each change
	stored  int64               // the version that the durable checkpoint covers
	last    *checkpoint         // the durable one; nil if there is none
	done    *fileMark           // a segment whose final name may not be safe yet
}

// A state is an account at a moment.
type state struct {
	topics  []topicMark
	version int64
}

// ownerPrefix begins the metadata of every offset that a kcagent commits for a
// file that it keeps an account of.
const ownerPrefix = "kcagent "

// OfAgent reports whether metadata is that of an offset that a kcagent
// committed, on whichever host, rather than some other member or an operator.
func OfAgent(metadata string) bool {
	return strings.HasPrefix(metadata, ownerPrefix)
}

// forget begins an account of nothing.
func (a *account) forget() {
	*a = account{
		owner:   ownerPrefix + rand.Text(),
		next:    make(map[TopicPartition]int64),
		topics:  make(map[string]Identity),
		renewed: make(map[string]Identity),
	}
}

// remember takes a checkpoint over. Offsets of another group are no answer to
// where this one stands: the file goes on, the account begins anew.
func (a *account) remember(c *checkpoint, group string) (same bool) {
	a.forget()
	a.last = c
	if c.Group != group {
		a.version++
		return false
	}
	a.owner = c.ID
	for _, t := range c.Topics {
		a.topics[t.Topic] = t.Identity
		for p, next := range t.Next {
			a.next[TopicPartition{t.Topic, p}] = next
		}
	}
	return true
}

// reached notes where a partition stands after c. The first record of a topic
// that was made anew ends what was known of the old one; not before, for who
// asked may have decided not to go on.
func (a *account) reached(c Chunk) {
	if topic, ok := a.renewed[c.Topic]; ok && topic != a.topics[c.Topic] {
		maps.DeleteFunc(a.next, func(k TopicPartition, _ int64) bool { return k.Topic == c.Topic })
		a.topics[c.Topic] = topic
	}
	if old, known := a.next[c.TopicPartition]; len(c.Data) > 0 || !known || old != c.Next {
		a.next[c.TopicPartition] = c.Next
		a.version++
	}
}

// place says where a partition stands in the topic that there is now.
func (a *account) place(tp TopicPartition, topic Identity) Place {
	was := a.topics[tp.Topic]
	if differ(was.Cluster, topic.Cluster) || differ(was.Topic, topic.Topic) {
		a.renewed[tp.Topic] = topic
		return Place{Next: -1, Owner: a.owner, Renewed: true}
	}
	if topic != (Identity{}) {
		a.topics[tp.Topic] = topic
	}
	next, known := a.next[tp]
	if !known {
		_, renewed := a.renewed[tp.Topic]
		return Place{Next: -1, Owner: a.owner, Renewed: renewed}
	}
	return Place{Next: next, Owner: a.owner}
}

func differ(a, b string) bool { return a != "" && b != "" && a != b }

// now is the account at this moment.
func (a *account) now() state {
	byTopic := make(map[string]*topicMark)
	for tp, offset := range a.next {
		t := byTopic[tp.Topic]
		if t == nil {
			t = &topicMark{Topic: tp.Topic, Identity: a.topics[tp.Topic], Next: make(map[int32]int64)}
			byTopic[tp.Topic] = t
		}
		t.Next[tp.Partition] = offset
	}
	s := state{make([]topicMark, 0, len(byTopic)), a.version}
	for _, name := range slices.Sorted(maps.Keys(byTopic)) {
		s.topics = append(s.topics, *byTopic[name])
	}
	return s
}
