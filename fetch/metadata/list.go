package metadata

import (
	"context"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/wire"
)

// A topicList has the topics of the cluster, without its internal ones.
type topicList struct {
	at     time.Time       // when it was requested; zero if it was not
	topics map[string]bool // false for a topic that only the newest response lacked
}

// Topics returns the topics of the cluster, sorted, without its internal ones. The list is not older
// than maxAge, so that a thousand concurrent callers cost one request. A topic disappears from it
// only when two responses lacked the topic, because a single broker may not know it yet.
func (c *Client) Topics(ctx context.Context, maxAge time.Duration) ([]string, error) {
	since := time.Now().Add(-maxAge)
	c.mu.Lock()
	fresh := c.list.at.After(since)
	c.mu.Unlock()
	if !fresh {
		if err := c.send(ctx, &request{since: since}); err != nil {
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

// listTopics requests the list of topics, unless that was done after since.
func (l *loop) listTopics(ctx context.Context, since time.Time) error {
	c := l.c
	c.mu.Lock()
	fresh := c.list.at.After(since)
	c.mu.Unlock()
	if fresh {
		return nil
	}
	var meta *sarama.MetadataResponse
	err := l.conn.do(ctx, func(c *wire.Conn) (err error) {
		meta, err = c.Metadata(nil)
		return err
	})
	if err != nil {
		return err
	}
	// The response has the metadata of the topics in use, too.
	c.apply(meta, NewUpdate(meta), l.conn.conn.Addr(), true)
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.list.topics
	c.list = topicList{at: time.Now(), topics: make(map[string]bool, len(meta.Topics))}
	for _, t := range meta.Topics {
		if !t.IsInternal && (t.Err == sarama.ErrNoError || t.Err == sarama.ErrLeaderNotAvailable) {
			c.list.topics[t.Name] = true
		}
	}
	for name, listed := range before {
		if listed && !c.list.topics[name] {
			c.list.topics[name] = false
		}
	}
	return nil
}
