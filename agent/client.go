package agent

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch"
)

// A groupClient is what sarama's consumer group needs of a client, and no more:
// one connection, to the group's coordinator. Metadata is the cluster's, which
// all its consumers share, and the records come through the fetcher. It saves a group a connection or more, the
// goroutines and the tables of a client of its own, which groups cannot share
// (sarama issue 958).
type groupClient struct {
	sarama.Client // nil: a method that a group does not use would panic

	ctx     context.Context // of the attempt to join: ends waiting for metadata
	cut     context.Context // ends waiting for anything
	conf    *sarama.Config  // of the group
	group   string
	cluster *fetch.Fetcher

	mu          sync.Mutex
	dial        *sarama.Config // of new connections
	coordinator *sarama.Broker // nil if unknown
	retired     *sarama.Broker // lives on for requests in flight
	closed      bool
}

func newGroupClient(ctx, cut context.Context, conf *sarama.Config, group string, cluster *fetch.Fetcher) *groupClient {
	return &groupClient{ctx: ctx, cut: cut, conf: conf, dial: conf, group: group, cluster: cluster}
}

// Config implements sarama.Client.
func (c *groupClient) Config() *sarama.Config { return c.conf }

// Closed implements sarama.Client.
func (c *groupClient) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close implements sarama.Client.
func (c *groupClient) Close() error {
	c.mu.Lock()
	c.closed = true
	retired := c.retired
	c.retired = nil
	c.mu.Unlock()
	c.forget()
	if retired != nil {
		_ = retired.Close()
	}
	return nil
}

// Coordinator implements sarama.Client: it returns the coordinator's connection,
// and opens it anew if it broke.
func (c *groupClient) Coordinator(group string) (*sarama.Broker, error) {
	c.mu.Lock()
	b, conf, closed := c.coordinator, c.dial, c.closed
	c.mu.Unlock()
	if closed {
		return nil, sarama.ErrClosedClient
	}
	if b == nil {
		if err := c.RefreshCoordinator(group); err != nil {
			return nil, err
		}
		c.mu.Lock()
		b = c.coordinator
		c.mu.Unlock()
		if b == nil {
			return nil, sarama.ErrClosedClient
		}
	}
	_ = b.Open(conf) // an error says that it is open already, or comes with the first request
	return b, nil
}

// RefreshCoordinator implements sarama.Client.
func (c *groupClient) RefreshCoordinator(group string) error {
	_, addr, err := c.cluster.Coordinator(c.cut, group)
	if err != nil {
		return err
	}
	c.mu.Lock()
	old := c.coordinator
	switch {
	case c.closed:
		c.mu.Unlock()
		return sarama.ErrClosedClient
	case old != nil && old.Addr() == addr:
		old = nil
	default:
		c.coordinator = sarama.NewBroker(addr)
	}
	c.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return nil
}

// forget has the coordinator looked up anew, for it may have moved: sarama asks
// for that only when it hears so from the old one, which may be dead.
func (c *groupClient) forget() {
	c.mu.Lock()
	b := c.coordinator
	c.coordinator = nil
	c.mu.Unlock()
	if b != nil {
		_ = b.Close()
	}
}

// reconnect uses conf for the connections from now on, which may differ in its
// credentials alone. The one there is lives on until what is in flight on it must
// have been answered: sarama closes abruptly, and a heartbeat or a join that
// fails costs the membership.
func (c *groupClient) reconnect(conf *sarama.Config) {
	c.mu.Lock()
	c.dial = conf
	old, older := c.coordinator, c.retired
	if old != nil {
		c.retired, c.coordinator = old, sarama.NewBroker(old.Addr())
		time.AfterFunc(retiredFor, func() { c.bury(old) })
	}
	c.mu.Unlock()
	if old != nil && older != nil {
		_ = older.Close()
	}
}

// bury closes a retired connection, if nobody has done so.
func (c *groupClient) bury(b *sarama.Broker) {
	c.mu.Lock()
	mine := c.retired == b
	if mine {
		c.retired = nil
	}
	c.mu.Unlock()
	if mine {
		_ = b.Close()
	}
}

// retiredFor is longer than any request is waited for.
const retiredFor = readTimeout + 5*time.Second

// RefreshMetadata implements sarama.Client.
func (c *groupClient) RefreshMetadata(topics ...string) error {
	return c.cluster.Refresh(c.ctx, topics)
}

// Partitions implements sarama.Client.
func (c *groupClient) Partitions(topic string) ([]int32, error) { return c.cluster.Partitions(topic) }

// PartitionNotReadable implements sarama.Client. A group that hears no waits for
// the partition until its generation ends, and starts none of what it reads
// with: for each partition five goroutines that look ten times a second whether
// they are still paused.
func (c *groupClient) PartitionNotReadable(string, int32) bool { return true }
