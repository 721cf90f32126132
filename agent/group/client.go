package group

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/fetch"
	"kcagent/retry"
)

// A Client is what sarama's consumer group needs of a client, and no more: one
// connection, to the group's coordinator. Metadata comes from the fetcher, which all
// consumers of the cluster share, and so do the records. Compared to a client of sarama's
// own, which groups cannot share (sarama issue 958), it saves each group at least one
// connection, with its goroutines and tables. Its methods are safe for concurrent use.
type Client struct {
	sarama.Client // nil: a method that a group does not use would panic

	ctx      context.Context // of the attempt to join: ends waiting for metadata
	conf     *sarama.Config  // of requests before a generation; shared
	group    string
	dialer   *kafka.Dialer
	cluster  *fetch.Fetcher
	assignor assignor

	mu          sync.Mutex
	dial        *sarama.Config     // of new connections
	credentials *login.Credentials // of new connections
	coordinator *sarama.Broker     // nil if unknown
	opened      bool               // the coordinator's connection has been opened once
	retired     *sarama.Broker     // lives on for requests in flight
	closed      bool

	closing sync.WaitGroup // connections that are being closed
}

// NewClient returns a client of one group. Nothing is dialled before it is used. ctx ends a
// wait for metadata.
func NewClient(ctx context.Context, conf *sarama.Config, c *login.Credentials, group string, d *kafka.Dialer, cluster *fetch.Fetcher) *Client {
	return &Client{ctx: ctx, conf: requestConfig(conf), dial: conf, credentials: c, group: group, dialer: d, cluster: cluster}
}

// ConsumerGroup returns sarama's consumer group that uses c. It must be called once, before
// any other method.
//
// The group keeps the settings of new connections, for its heartbeats. Requests before a
// generation use the settings of the client, and must not be retried for minutes without a
// report.
func (c *Client) ConsumerGroup() (sarama.ConsumerGroup, error) {
	conf := c.conf
	c.assignor.BalanceStrategy = c.dial.Consumer.Group.Rebalance.GroupStrategies[0]
	c.dial.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{&c.assignor}
	c.conf = c.dial
	defer func() { c.conf = conf }()
	return sarama.NewConsumerGroupFromClient(c.group, c)
}

// Config implements sarama.Client.
func (c *Client) Config() *sarama.Config { return c.conf }

// Closed implements sarama.Client.
func (c *Client) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close implements sarama.Client.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closeBroker(c.coordinator)
	c.closeBroker(c.retired)
	c.closed, c.coordinator, c.retired = true, nil, nil
	c.mu.Unlock()
	c.closing.Wait()
	return nil
}

// closeBroker closes a connection, if there is one, in a goroutine of its own: sarama's
// Close waits for the dial or the request in flight, for as long as an unresponsive broker
// may take. c.mu is held.
func (c *Client) closeBroker(b *sarama.Broker) {
	if b != nil && !c.closed {
		c.closing.Go(func() { _ = b.Close() })
	}
}

// Coordinator implements sarama.Client: it returns the coordinator's connection, and opens
// it again if it broke. If that fails, the coordinator may have moved, as it does when a
// broker is restarted, so the next call looks it up. The error of this call makes sarama
// pause before it retries a heartbeat.
func (c *Client) Coordinator(group string) (*sarama.Broker, error) {
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
		c.drop(b, err)
		return nil, err
	case b != nil:
		return b, nil
	}
	if err := c.RefreshCoordinator(group); err != nil {
		return nil, err
	}
	if b, _, err = c.open(); b == nil && err == nil {
		err = sarama.ErrConsumerCoordinatorNotAvailable // forgotten meanwhile
	}
	return b, err
}

// open opens the connection if it is not open, and returns it; nil if the coordinator is
// unknown. broke says that it had been open before. The lock is held for that, which does
// not wait for the network: otherwise the connection could be closed before it is opened,
// and would then stay.
func (c *Client) open() (b *sarama.Broker, broke bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, false, sarama.ErrClosedClient
	case c.coordinator == nil:
		return nil, false, c.credentials.Breaker.Blocked() // a lookup would serve no connection
	}
	// An error says that it is open already; an error of the dial comes with the first request.
	broke = c.coordinator.Open(c.dial) == nil && c.opened
	c.opened = true
	return c.coordinator, broke, nil
}

// RefreshCoordinator implements sarama.Client.
func (c *Client) RefreshCoordinator(string) error { return c.refresh(c.dialer.Context()) }

// refresh is RefreshCoordinator that ends with ctx.
func (c *Client) refresh(ctx context.Context) error {
	_, addr, err := c.cluster.Coordinator(ctx, c.group)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return sarama.ErrClosedClient
	}
	if old := c.coordinator; old == nil || old.Addr() != addr {
		c.closeBroker(old)
		c.coordinator, c.opened = sarama.NewBroker(addr), false
	}
	return nil
}

const (
	// CoordinatorPause is how long to wait before the next request to a coordinator that is
	// not ready.
	CoordinatorPause = 500 * time.Millisecond
	// newClusterTime is longer than brokers need to create the topic of committed offsets.
	newClusterTime = 5 * time.Second
)

// FindCoordinator looks up the coordinator of the group. A new cluster has none until its
// brokers have created the topic of committed offsets, and sarama would wait two seconds
// before each retry.
func (c *Client) FindCoordinator(ctx context.Context) error {
	for began := time.Now(); ; {
		err := c.refresh(ctx)
		if !errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) || time.Since(began) > newClusterTime {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry.Jitter(CoordinatorPause)):
		}
	}
}

// Describe returns the description of the group by its coordinator.
func (c *Client) Describe() (*sarama.GroupDescription, error) {
	coordinator, err := c.Coordinator(c.group)
	if err != nil {
		return nil, err
	}
	resp, err := coordinator.DescribeGroups(&sarama.DescribeGroupsRequest{Version: 5, Groups: []string{c.group}})
	switch {
	case err != nil:
		return nil, err
	case len(resp.Groups) != 1:
		return nil, sarama.ErrIncompleteResponse
	case resp.Groups[0].Err != sarama.ErrNoError:
		return nil, resp.Groups[0].Err
	}
	return resp.Groups[0], nil
}

// Forget drops the coordinator, so that it is looked up again: it may have moved. sarama
// does so only if the former coordinator responds that the group has moved, and it may be
// down.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeBroker(c.coordinator)
	c.coordinator = nil
}

// DropOverdue closes the connections on which a response is overdue by limit, and has the
// coordinator looked up again. It returns the address of one of them, nil if there is none,
// and when bytes last arrived on any connection.
func (c *Client) DropOverdue(limit time.Duration) (addr net.Addr, received time.Time) {
	late, received := c.dialer.Overdue(limit)
	if len(late) == 0 {
		return nil, received
	}
	c.Forget() // first: sarama asks for the coordinator as soon as its connection is closed
	for _, conn := range late {
		_ = conn.Close()
	}
	return late[0].RemoteAddr(), received
}

// drop forgets the coordinator if b is still its connection, which could not be opened. A
// rejected login is recorded: heartbeats are retried so often that they would lock the
// account.
func (c *Client) drop(b *sarama.Broker, err error) {
	c.mu.Lock()
	used := c.credentials
	current := c.coordinator == b
	if current {
		c.closeBroker(b)
		c.coordinator = nil
	}
	c.mu.Unlock()
	if current {
		used.RecordError(err)
	}
}

// Reconnect uses conf and credentials for the connections from now on; conf may differ only
// in what follows from the credentials. The present connection lives on until its requests
// in flight must have been answered: sarama closes abruptly, and a heartbeat or a join that
// fails costs the membership.
func (c *Client) Reconnect(conf *sarama.Config, credentials *login.Credentials) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dial, c.credentials = conf, credentials
	old := c.coordinator
	if old == nil {
		return
	}
	c.closeBroker(c.retired)
	c.retired, c.coordinator, c.opened = old, sarama.NewBroker(old.Addr()), false
	c.retire(old)
}

// retiredTime is longer than the timeout of any request except a join.
const retiredTime = kafka.ReadTimeout + 5*time.Second

// retire closes a connection once its requests in flight must have been answered. c.mu is
// held.
func (c *Client) retire(old *sarama.Broker) {
	time.AfterFunc(retiredTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.retired != old {
			return
		}
		if _, waits := c.dialer.Joining(); waits {
			c.retire(old)
			return
		}
		c.closeBroker(old)
		c.retired = nil
	})
}

// coordinatorAddr returns the address of the coordinator; "" if it is unknown.
func (c *Client) coordinatorAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.coordinator == nil {
		return ""
	}
	return c.coordinator.Addr()
}

// RefreshMetadata implements sarama.Client. A group calls it before it joins, just after
// its member has requested the metadata of the topics.
func (c *Client) RefreshMetadata(topics ...string) error {
	return c.cluster.RefreshSince(c.ctx, topics, time.Now().Add(-time.Second))
}

// Partitions implements sarama.Client.
func (c *Client) Partitions(topic string) ([]int32, error) { return c.cluster.Partitions(topic) }
