package agent

import (
	"context"
	"errors"
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
	opened      bool           // it was, once
	refusal     error          // of the credentials, which are not shown again; nil if there was none
	retired     *sarama.Broker // lives on for requests in flight
	closed      bool

	burials sync.WaitGroup // Close waits for them

	joining func() (since time.Time, ok bool) // whether a join waits for its response; nil if none ever does
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
	c.bury(c.coordinator)
	c.bury(c.retired)
	c.closed, c.coordinator, c.retired = true, nil, nil
	c.mu.Unlock()
	c.burials.Wait()
	return nil
}

// bury closes a connection, if there is one. Nobody waits for that but Close:
// sarama's Close waits for what is under way on it, an answer or the opening, for
// as long as a broker that has become a black hole may take. c.mu is held.
func (c *groupClient) bury(b *sarama.Broker) {
	if b != nil && !c.closed {
		c.burials.Go(func() { _ = b.Close() })
	}
}

// Coordinator implements sarama.Client: it returns the coordinator's connection,
// and opens it anew if it broke. If that fails, the coordinator may have moved, as it
// does when a broker is restarted, so the next call looks. Then an error is returned,
// for that is what has sarama pause between two tries of a heartbeat.
func (c *groupClient) Coordinator(group string) (*sarama.Broker, error) {
	b, broke, err := c.open()
	switch {
	case err != nil:
		return nil, err
	case broke:
		ok, err := b.Connected()
		switch {
		case ok:
			return b, nil
		case err == nil:
			err = sarama.ErrNotConnected
		}
		c.leave(b, err)
		return nil, err
	case b != nil:
		return b, nil
	}
	if err := c.RefreshCoordinator(group); err != nil {
		return nil, err
	}
	if b, _, err = c.open(); b == nil && err == nil {
		err = sarama.ErrConsumerCoordinatorNotAvailable // and forgotten meanwhile
	}
	return b, err
}

// open opens the connection if it is not, and returns it; nil if the coordinator
// is unknown. Broke says that it was open before. It holds the lock for that, which
// does not wait for the network: nobody can bury the connection before it is
// opened, which would then stay.
func (c *groupClient) open() (b *sarama.Broker, broke bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, false, sarama.ErrClosedClient
	case c.refusal != nil:
		return nil, false, c.refusal
	case c.coordinator == nil:
		return nil, false, nil
	}
	// An error says that it is open already; one of opening it comes with the first request.
	broke = c.coordinator.Open(c.dial) == nil && c.opened
	c.opened = true
	return c.coordinator, broke, nil
}

// RefreshCoordinator implements sarama.Client.
func (c *groupClient) RefreshCoordinator(group string) error { return c.refresh(c.cut, group) }

// refresh is RefreshCoordinator that ends with ctx.
func (c *groupClient) refresh(ctx context.Context, group string) error {
	_, addr, err := c.cluster.Coordinator(ctx, group)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return sarama.ErrClosedClient
	}
	if old := c.coordinator; old == nil || old.Addr() != addr {
		c.bury(old)
		c.coordinator, c.opened = sarama.NewBroker(addr), false
	}
	return nil
}

// findCoordinator looks up the coordinator of the group. A new cluster has none until its
// brokers have created the topic of committed offsets, and sarama would wait two seconds
// before each retry.
func (m *member) findCoordinator(ctx context.Context) error {
	for began := time.Now(); ; {
		err := m.client.refresh(ctx, m.spec.Group)
		if !errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) || time.Since(began) > newClusterTakes {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jitter(coordinatorPause)):
		}
	}
}

// newClusterTakes is longer than brokers need to create the topic of committed offsets.
const newClusterTakes = 5 * time.Second

// forget has the coordinator looked up anew, for it may have moved: sarama asks
// for that only when it hears so from the old one, which may be dead.
func (c *groupClient) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bury(c.coordinator)
	c.coordinator = nil
}

// leave forgets the coordinator if b is its connection still, which could not be
// opened. Who was refused does not come again with the same credentials: heartbeats
// are tried so often that they would lock the account.
func (c *groupClient) leave(b *sarama.Broker, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.coordinator == b {
		if errors.Is(why, sarama.ErrSASLAuthenticationFailed) && !held(why) {
			c.refusal = why
		}
		c.bury(b)
		c.coordinator = nil
	}
}

// reconnect uses conf for the connections from now on, which may differ in its
// credentials alone. The one there is lives on until what is in flight on it must
// have been answered: sarama closes abruptly, and a heartbeat or a join that
// fails costs the membership.
func (c *groupClient) reconnect(conf *sarama.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dial, c.refusal = conf, nil
	old := c.coordinator
	if old == nil {
		return
	}
	c.bury(c.retired)
	c.retired, c.coordinator, c.opened = old, sarama.NewBroker(old.Addr()), false
	c.retire(old)
}

// retire closes a connection once its requests in flight must have been answered. c.mu is
// held.
func (c *groupClient) retire(old *sarama.Broker) {
	time.AfterFunc(retiredFor, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.retired != old {
			return
		}
		if c.joining != nil {
			if _, waits := c.joining(); waits {
				c.retire(old)
				return
			}
		}
		c.bury(old)
		c.retired = nil
	})
}

// addr is the coordinator's; "" if it is unknown.
func (c *groupClient) addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.coordinator == nil {
		return ""
	}
	return c.coordinator.Addr()
}

// retiredFor is longer than the timeout of any request except a join.
const retiredFor = readTimeout + 5*time.Second

// RefreshMetadata implements sarama.Client. A group calls it before it joins, just after
// its member has asked for the topics.
func (c *groupClient) RefreshMetadata(topics ...string) error {
	return c.cluster.RefreshSince(c.ctx, topics, time.Now().Add(-time.Second))
}

// Partitions implements sarama.Client.
func (c *groupClient) Partitions(topic string) ([]int32, error) { return c.cluster.Partitions(topic) }

// PartitionNotReadable implements sarama.Client. A group that hears no waits for
// the partition until its generation ends, and starts none of what it reads
// with: for each partition five goroutines that look ten times a second whether
// they are still paused.
func (c *groupClient) PartitionNotReadable(string, int32) bool { return true }
