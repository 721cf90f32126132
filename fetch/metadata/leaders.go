package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
)

// An Update is what a metadata response says of the topics in it.
type Update struct {
	Addrs  map[int32]string // of all brokers, by their ids
	Topics []TopicUpdate
}

// A TopicUpdate is what a metadata response says of a topic.
type TopicUpdate struct {
	Name string
	// ID of the topic; "" if the brokers are too old to report it.
	ID string
	// Disputed says that this response named another id. It is not accepted yet.
	Disputed bool
	// All says that it concerns all consumers of the topic, not only those that look for a
	// leader, because the id is another one than in the last update.
	All bool

	meta       *sarama.TopicMetadata
	partitions map[int32]*sarama.PartitionMetadata
}

// NewUpdate returns what meta says. It needs no lock.
func NewUpdate(meta *sarama.MetadataResponse) *Update {
	u := &Update{Addrs: make(map[int32]string, len(meta.Brokers)), Topics: make([]TopicUpdate, len(meta.Topics))}
	for _, b := range meta.Brokers {
		u.Addrs[b.ID()] = b.Addr()
	}
	for i, t := range meta.Topics {
		u.Topics[i] = TopicUpdate{Name: t.Name, meta: t, partitions: make(map[int32]*sarama.PartitionMetadata, len(t.Partitions))}
		for _, p := range t.Partitions {
			u.Topics[i].partitions[p.ID] = p
		}
	}
	return u
}

// A Leader is the broker that leads a partition.
type Leader struct {
	ID    int32
	Addr  string
	Epoch int32 // -1 if the broker is too old to report it
}

// Leader returns the leader of a partition of the topic t of the update, or why it is not
// known.
func (u *Update) Leader(t *TopicUpdate, partition int32) (Leader, error) {
	if t.meta.Err != sarama.ErrNoError && t.meta.Err != sarama.ErrLeaderNotAvailable {
		return Leader{}, t.meta.Err
	}
	p := t.partitions[partition]
	switch {
	case p == nil:
		return Leader{}, sarama.ErrUnknownTopicOrPartition
	case p.Leader < 0 || u.Addrs[p.Leader] == "":
		return Leader{}, sarama.ErrLeaderNotAvailable
	case p.Version < 7:
		return Leader{p.Leader, u.Addrs[p.Leader], -1}, nil
	}
	return Leader{p.Leader, u.Addrs[p.Leader], p.LeaderEpoch}, nil
}

// apply records the metadata that the broker at from sent, and hands it to the leaders.
func (c *Client) apply(meta *sarama.MetadataResponse, u *Update, from string, onlyUsed bool) {
	now := time.Now()
	c.mu.Lock()
	if onlyUsed {
		u.Topics = slices.DeleteFunc(u.Topics, func(t TopicUpdate) bool { return c.topics[t.Name] == nil })
	}
	for i := range u.Topics {
		t := &u.Topics[i]
		c.record(t.meta, dial.ClusterID(meta.ClusterID), from, now)
		known := c.topics[t.Name]
		t.ID, t.Disputed = known.id, known.rival != ""
		if t.All = t.Disputed || known.recognised != known.id; t.All {
			known.recognised = known.id
		}
	}
	c.mu.Unlock()
	c.leaders.Learn(u)
}

// refresh asks for the leaders of topics, and says when to look again.
func (r *runner) refresh(ctx context.Context, topics map[string]bool, requests []*request) time.Duration {
	began := time.Now()
	var meta *sarama.MetadataResponse
	err := r.conn.ask(ctx, func(c *wire.Conn) (err error) {
		names := make([]string, 0, len(topics))
		for t := range topics {
			names = append(names, t)
		}
		if meta, err = c.Metadata(names); err == nil && len(meta.Brokers) == 0 {
			err = errors.New("the metadata names no broker")
		}
		return err
	})
	if ctx.Err() != nil {
		err = ErrEnded
	}
	defer func() {
		for _, q := range requests {
			if len(q.topics) > 0 {
				q.answer(err)
			}
		}
	}()
	if err != nil {
		wait := r.backoff.Next()
		r.c.leaders.Fail(topics, fmt.Errorf("look up leader: %w", err), began, wait)
		return wait
	}
	r.backoff.Reset()
	r.c.apply(meta, NewUpdate(meta), r.conn.conn.Addr(), false)
	r.conn.switchBroker(time.Now())
	return 0
}
