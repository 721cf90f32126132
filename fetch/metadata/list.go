package metadata

import (
	"context"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/wire"
)

// A topicList is which topics the cluster has, its internal ones aside.
type topicList struct {
	at     time.Time       // zero: nobody has asked
	topics map[string]bool // false: the newest list lacked it, and the one before did not
}

// Topics lists the topics of the cluster, sorted, without its internal ones. The
// list is no older than maxAge, so that a thousand callers at a time cost one
// request. A topic is left out only when two lists have lacked it: one broker
// may not have heard of it yet.
func (c *Client) Topics(ctx context.Context, maxAge time.Duration) ([]string, error) {
	since := time.Now().Add(-maxAge)
	c.mu.Lock()
	fresh := c.list.at.After(since)
	c.mu.Unlock()
	if !fresh {
		if err := c.do(ctx, &request{since: since}); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.list.topics))
	for name := range c.list.topics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// listTopics asks which topics there are, unless that was done since.
func (r *runner) listTopics(ctx context.Context, since time.Time) error {
	c := r.c
	c.mu.Lock()
	fresh := c.list.at.After(since)
	c.mu.Unlock()
	if fresh {
		return nil
	}
	var meta *sarama.MetadataResponse
	err := r.conn.ask(ctx, func(c *wire.Conn) (err error) {
		meta, err = c.Metadata(nil)
		return err
	})
	if err != nil {
		return err
	}
	// It has all there is to know of the topics in use.
	c.apply(meta, NewUpdate(meta), r.conn.conn.Addr(), true)
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.list.topics
	c.list = topicList{at: time.Now(), topics: make(map[string]bool, len(meta.Topics))}
	for _, t := range meta.Topics {
		if !t.IsInternal && (t.Err == sarama.ErrNoError || t.Err == sarama.ErrLeaderNotAvailable) {
			c.list.topics[t.Name] = true
		}
	}
	for name, there := range before {
		if there && !c.list.topics[name] {
			c.list.topics[name] = false
		}
	}
	return nil
}
