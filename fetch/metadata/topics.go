package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

const (
	// refreshInterval is how often the metadata of all topics in use is refreshed, and so how
	// soon new partitions are found.
	refreshInterval = 30 * time.Second
	// forgetAfter is how long a topic is in use after the last call of Partitions.
	forgetAfter = 5 * time.Minute
)

// A topic is the metadata of one topic in use.
type topic struct {
	err         error
	failures    int       // responses in a row with an error
	partitions  []int32   // sorted
	cluster     string    // that sent the last response; "" if it reports no id
	id          string    // "" if the brokers are too old to report it
	rivalID     string    // another id that a response had and that is not accepted yet; "" if none
	rivalFrom   string    // address of the broker that reported rivalID first
	rivalAt     time.Time // when that was
	announcedID string    // the id in the last update for all partitions
	refreshedAt time.Time // when the last response arrived
	usedAt      time.Time // when Partitions was last called
}

// Refresh requests the metadata of topics. Its error is a [*TopicError] for the first topic that
// cannot be used, or says why the cluster cannot be asked. Concurrent calls share one request.
func (c *Client) Refresh(ctx context.Context, topics []string) error {
	return c.RefreshSince(ctx, topics, time.Now())
}

// RefreshSince is Refresh, but makes no request if the metadata of each topic was refreshed at or
// after since.
func (c *Client) RefreshSince(ctx context.Context, topics []string, since time.Time) error {
	if !c.isFresh(topics, since) {
		if err := c.send(ctx, &request{topics: topics}); err != nil {
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

// ErrDisputed says that a broker does not report a topic as it is known: it may have been deleted or
// recreated.
var ErrDisputed = errors.New("a broker reports another topic of this name, or none; asking again")

// Confirm requests the metadata of topics. It returns an error for each topic that a broker does not
// report as it is known. For the others, [Client.Identity] has been true of everything that was read
// before the call. err says why the cluster cannot be asked.
func (c *Client) Confirm(ctx context.Context, topics []string) (failed map[string]error, err error) {
	if err := c.send(ctx, &request{topics: topics}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	failed = make(map[string]error)
	for _, name := range topics {
		switch t := c.topics[name]; {
		case t == nil:
			failed[name] = &TopicError{name, sarama.ErrUnknownTopicOrPartition}
		case t.err != nil:
			failed[name] = &TopicError{name, t.err}
		case t.failures > 0 || t.rivalID != "":
			failed[name] = &TopicError{name, ErrDisputed}
		}
	}
	return failed, nil
}

// isFresh reports whether all topics were refreshed at or after since.
func (c *Client) isFresh(topics []string, since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range topics {
		if t := c.topics[name]; t == nil || t.refreshedAt.Before(since) {
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

// Partitions returns the partitions of a topic as of the last Refresh, or at most half a minute ago
// for a topic in use. The caller must not change them.
func (c *Client) Partitions(name string) ([]int32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	if t == nil {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	t.usedAt = time.Now()
	return t.partitions, t.err
}

// record stores the metadata of a topic that the broker at from, of the cluster, sent. It forgets
// what another cluster reported before, while the pin was not final. c.mu is held.
func (c *Client) record(m *sarama.TopicMetadata, cluster, from string, now time.Time) {
	t := c.topics[m.Name]
	if t != nil && cluster != "" && t.cluster != cluster {
		if t.cluster != "" {
			*t = topic{usedAt: t.usedAt}
		}
		t.cluster = cluster
	}
	if t == nil {
		t = &topic{usedAt: now, cluster: cluster}
		c.topics[m.Name] = t
	}
	t.refreshedAt = now
	if m.Err != sarama.ErrNoError && m.Err != sarama.ErrLeaderNotAvailable {
		// Two responses must agree, because a single broker may not know the topic yet, and a
		// group whose topic is missing is rebalanced.
		if t.failures++; t.failures > 1 || len(t.partitions) == 0 {
			t.err, t.partitions = m.Err, nil
		} else {
			t.refreshSoon()
		}
		return
	}
	t.err, t.partitions, t.failures = nil, nil, 0
	t.updateID(m.Uuid, from, now)
	for _, p := range m.Partitions {
		t.partitions = append(t.partitions, p.ID)
	}
	slices.Sort(t.partitions)
}

// rivalTime is how long a single broker must report another id of a topic before it is
// accepted.
const rivalTime = time.Second

// updateID records the id of a topic that the broker at from reported. Another id than before means
// that the topic was recreated. But a broker that was partitioned off may report an old id, so two
// responses must agree, and the second one must come from another broker, or later.
func (t *topic) updateID(uuid sarama.Uuid, from string, now time.Time) {
	id := ""
	if uuid != (sarama.Uuid{}) {
		id = uuid.String()
	}
	switch {
	case id == "":
	case t.id == "" || t.id == id:
		t.id, t.rivalID = id, ""
	case t.rivalID != id:
		t.rivalID, t.rivalFrom, t.rivalAt = id, from, now
		t.refreshSoon()
	case t.rivalFrom != from || now.Sub(t.rivalAt) >= rivalTime:
		t.id, t.rivalID = id, ""
	default:
		t.refreshSoon()
	}
}

// refreshSoon makes the next refresh of the topic due in a second, because two responses must agree.
func (t *topic) refreshSoon() { t.refreshedAt = t.refreshedAt.Add(time.Second - refreshInterval) }

// Identity returns the ids of the cluster and of a topic as of the last Refresh. An id is "" if the
// brokers are too old to report it.
func (c *Client) Identity(name string) (cluster, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil {
		cluster, id = t.cluster, t.id // of the same response
	}
	if cluster == "" {
		cluster = c.opener.Dialer().Pin().ID()
	}
	return cluster, id
}
