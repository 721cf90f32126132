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

// An Update is what a metadata response reports.
type Update struct {
	Addrs  map[int32]string // addresses of all brokers, host:port, by id
	Topics []TopicUpdate
}

// A TopicUpdate is what a metadata response reports of a topic.
type TopicUpdate struct {
	Name string
	// ID is the id of the topic, "" if the brokers are too old to report it.
	ID string
	// Disputed says that a response had another id, which is not accepted yet.
	Disputed bool
	// ForAll says that the update concerns all partitions of the topic, and not only those
	// without a known leader, because ID has changed or is disputed.
	ForAll bool

	meta       *sarama.TopicMetadata
	partitions map[int32]*sarama.PartitionMetadata
}

// NewUpdate returns the update of a response, without the ids of topics.
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
	Addr  string // host:port
	Epoch int32  // -1 if the brokers are too old to report it
}

// Leader returns the leader of a partition of t, which is one of u.Topics. Its error says why the
// leader is unknown.
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

// apply records the metadata that the broker at the address from sent, and passes it on to the
// leaders. If onlyUsed is true, topics that are not in use are ignored.
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
		t.ID, t.Disputed = known.id, known.rivalID != ""
		if t.ForAll = t.Disputed || known.announcedID != known.id; t.ForAll {
			known.announcedID = known.id
		}
	}
	c.mu.Unlock()
	c.leaders.Learn(u)
}

// refresh asks for the metadata of topics and answers the requests for it. It returns how long to
// wait before the next lookup.
func (l *loop) refresh(ctx context.Context, topics map[string]bool, requests []*request) time.Duration {
	began := time.Now()
	var meta *sarama.MetadataResponse
	err := l.conn.do(ctx, func(c *wire.Conn) (err error) {
		names := make([]string, 0, len(topics))
		for t := range topics {
			names = append(names, t)
		}
		if meta, err = c.Metadata(names); err == nil && len(meta.Brokers) == 0 {
			err = errors.New("invalid metadata response: no brokers")
		}
		return err
	})
	if ctx.Err() != nil {
		err = ErrEnded
	}
	defer func() {
		for _, r := range requests {
			if len(r.topics) > 0 {
				r.answer(err)
			}
		}
	}()
	if err != nil {
		wait := l.backoff.Next()
		l.c.leaders.Fail(topics, fmt.Errorf("look up leader: %w", err), began, wait)
		return wait
	}
	l.backoff.Reset()
	l.c.apply(meta, NewUpdate(meta), l.conn.conn.Addr(), false)
	l.conn.switchBroker(time.Now())
	return 0
}
