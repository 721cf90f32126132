package metadata

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

const (
	// refreshEvery is how often the metadata of all topics in use is asked for:
	// new partitions are seen that soon.
	refreshEvery = 30 * time.Second
	// topicForgotten is when a topic that nobody asks for is no longer in use.
	topicForgotten = 5 * time.Minute
)

// A topic is what is known of one.
type topic struct {
	err        error
	failed     int       // answers in a row that were an error
	partitions []int32   // sorted
	cluster    string    // of the last answer; "" if it named none
	id         string    // "" if the brokers are too old to tell
	rival      string    // another id that one answer named; "" if none did
	rivalFrom  string    // the address of the broker that named it first
	rivalAt    time.Time // when that was
	recognised string    // the id that the subscriptions were compared with last
	at         time.Time // of the last answer
	used       time.Time // when somebody asked
}

// Refresh asks the cluster for topics: whether they are there, and their
// partitions. Its error names the first that cannot be used. Many calls at a
// time share one request.
func (c *Client) Refresh(ctx context.Context, topics []string) error {
	return c.RefreshSince(ctx, topics, time.Now())
}

// RefreshSince is Refresh, but answers without asking if what is known of each topic is
// as of since or later.
func (c *Client) RefreshSince(ctx context.Context, topics []string, since time.Time) error {
	if !c.known(topics, since) {
		if err := c.do(ctx, &request{topics: topics}); err != nil {
			return err
		}
	}
	for _, t := range topics {
		if _, err := c.Partitions(t); err != nil {
			return &TopicError{t, err}
		}
	}
	return nil
}

// known reports that all topics were asked for at since or later.
func (c *Client) known(topics []string, since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range topics {
		if t := c.topics[name]; t == nil || t.at.Before(since) {
			return false
		}
	}
	return true
}

// A TopicError says why a topic cannot be used.
type TopicError struct {
	Topic string
	Err   error
}

func (e *TopicError) Error() string { return fmt.Sprintf("topic %q: %v", e.Topic, e.Err) }

// Unwrap returns Err.
func (e *TopicError) Unwrap() error { return e.Err }

// Partitions lists the partitions of a topic as they were known at the last
// Refresh, or half a minute ago at most for a topic in use.
func (c *Client) Partitions(name string) ([]int32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	if t == nil {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	t.used = time.Now()
	return t.partitions, t.err
}

// record keeps what the metadata of a cluster says of a topic. What another cluster said
// before, at which the pin was not final, is forgotten. c.mu is held.
func (c *Client) record(m *sarama.TopicMetadata, cluster, from string, now time.Time) {
	t := c.topics[m.Name]
	if t != nil && cluster != "" && t.cluster != cluster {
		if t.cluster != "" {
			*t = topic{used: t.used}
		}
		t.cluster = cluster
	}
	if t == nil {
		t = &topic{used: now, cluster: cluster}
		c.topics[m.Name] = t
	}
	t.at = now
	if m.Err != sarama.ErrNoError && m.Err != sarama.ErrLeaderNotAvailable {
		// One broker may not have heard of it yet, and a group whose topic seems
		// to be gone is rebalanced.
		if t.failed++; t.failed > 1 || len(t.partitions) == 0 {
			t.err, t.partitions = m.Err, nil
		} else {
			t.soon()
		}
		return
	}
	t.err, t.partitions, t.failed = nil, nil, 0
	t.identify(m.Uuid, from, now)
	for _, p := range m.Partitions {
		t.partitions = append(t.partitions, p.ID)
	}
	slices.Sort(t.partitions)
}

// rivalTime is how long a single broker must report another id of a topic before it is
// accepted.
const rivalTime = time.Second

// identify records the id of a topic that the broker at from reported. Another id than
// before means that the topic was recreated. But a broker that was partitioned off may name
// an old id, so two responses must agree, and the second one must come from another broker
// or later.
func (t *topic) identify(uuid sarama.Uuid, from string, now time.Time) {
	id := ""
	if uuid != (sarama.Uuid{}) {
		id = uuid.String()
	}
	switch {
	case id == "":
	case t.id == "" || t.id == id:
		t.id, t.rival = id, ""
	case t.rival != id:
		t.rival, t.rivalFrom, t.rivalAt = id, from, now
		t.soon()
	case t.rivalFrom != from || now.Sub(t.rivalAt) >= rivalTime:
		t.id, t.rival = id, ""
	default:
		t.soon()
	}
}

// soon has the topic asked for again in a second: two answers must agree.
func (t *topic) soon() { t.at = t.at.Add(time.Second - refreshEvery) }

// Identity returns the ids of the cluster and of a topic as they were known at
// the last Refresh; "" for what the brokers are too old to tell.
func (c *Client) Identity(name string) (cluster, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil {
		cluster, id = t.cluster, t.id // of one answer
	}
	if cluster == "" {
		cluster = c.opener.Dialer().Pin().ID()
	}
	return cluster, id
}
