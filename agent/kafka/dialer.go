package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"kcagent/agent/kafka/login"
	"kcagent/fetch"
)

// A Dialer opens all connections of one consumer to its coordinator, and can close all of
// them. sarama's requests cannot be cancelled, but they end with their connection; so an
// unresponsive broker does not delay a stop. Its methods are safe for concurrent use.
type Dialer struct {
	ctx    context.Context // ends with Cut
	cancel context.CancelFunc

	received   atomic.Int64     // Unix nanoseconds of the last bytes from the coordinator
	joins      atomic.Int64     // number of requests to join
	Membership fetch.Membership // whether the consumer is a member of its group

	mu    sync.Mutex
	conns map[*TrackedConn]struct{}
}

// NewDialer returns a dialer without connections.
func NewDialer() *Dialer {
	d := &Dialer{conns: make(map[*TrackedConn]struct{})}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

var errCut = errors.New("connections were closed: the consumer did not stop in time")

// Track registers conn, so that Cut closes it. Its error says that Cut was called before.
func (d *Dialer) Track(conn net.Conn) (*TrackedConn, error) {
	t := &TrackedConn{Conn: conn, dialer: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		_ = conn.Close()
		return nil, errCut
	}
	d.conns[t] = struct{}{}
	return t, nil
}

// Context ends when Cut is called.
func (d *Dialer) Context() context.Context { return d.ctx }

// Cut closes every open connection, and each one that is opened later.
func (d *Dialer) Cut() {
	d.cancel()
	d.mu.Lock()
	conns := d.conns
	d.conns = make(map[*TrackedConn]struct{})
	d.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

// Open returns the connections that are open.
func (d *Dialer) Open() []net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	var open []net.Conn
	for c := range d.conns {
		open = append(open, c)
	}
	return open
}

// Overdue returns the connections on which a response has been outstanding for longer than
// limit, and when bytes last arrived on any connection.
func (d *Dialer) Overdue(limit time.Duration) (late []*TrackedConn, received time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if sent := c.sent.Load(); sent != 0 && time.Since(time.Unix(0, sent)) > limit {
			late = append(late, c)
		}
	}
	return late, time.Unix(0, d.received.Load())
}

// Joining returns since when a join has waited for its response; ok is false if none waits.
func (d *Dialer) Joining() (since time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if at := c.joinSent.Load(); at != 0 && (!ok || at < since.UnixNano()) {
			since, ok = time.Unix(0, at), true
		}
	}
	return since, ok
}

// JoiningAs returns the member id of the join that waits; "" if there is none.
func (d *Dialer) JoiningAs() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if id := c.memberID.Load(); id != nil && c.joinSent.Load() != 0 {
			return *id
		}
	}
	return ""
}

// Joins returns how many requests to join a group were sent so far.
func (d *Dialer) Joins() int64 { return d.joins.Load() }

// CutJoins closes the connections on which a join waits.
func (d *Dialer) CutJoins() {
	d.mu.Lock()
	var waiting []*TrackedConn
	for c := range d.conns {
		if c.joinSent.Load() != 0 {
			waiting = append(waiting, c)
		}
	}
	d.mu.Unlock()
	for _, c := range waiting {
		_ = c.Close()
	}
}

// ToCoordinator returns a dialer that opens connections to coordinators of the cluster with
// certain credentials, except during their login backoff. d tracks the connections.
func (d *Dialer) ToCoordinator(creds *login.Credentials, cluster *fetch.Fetcher) interface {
	Dial(network, addr string) (net.Conn, error)
} {
	return coordinatorDialer{d, creds, cluster}
}

type coordinatorDialer struct {
	*Dialer
	credentials *login.Credentials
	cluster     *fetch.Fetcher
}

// Dial implements proxy.Dialer. It takes at most five seconds.
func (d coordinatorDialer) Dial(_, addr string) (net.Conn, error) {
	if err := d.credentials.Breaker.Allow(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	var wire *TrackedConn
	conn, err := d.cluster.Connect(ctx, addr, fetch.ConnectOptions{
		TLS: d.credentials.TLS, Peer: "its coordinator at " + addr, Member: &d.Membership,
		Wrap: func(conn net.Conn) (_ net.Conn, err error) {
			wire, err = d.Track(conn)
			return wire, err
		},
	})
	if err != nil {
		return nil, err
	}
	return &coordinatorConn{Conn: conn, wire: wire}, nil
}

// A TrackedConn is a connection below TLS that records when a response is outstanding.
type TrackedConn struct {
	net.Conn
	dialer   *Dialer
	sent     atomic.Int64           // Unix nanoseconds of the first request without a later response; 0 if there is none
	joinSent atomic.Int64           // Unix nanoseconds of a join without a response; 0 if there is none
	memberID atomic.Pointer[string] // in the last join; nil if there was none
}

// Write implements net.Conn.
func (c *TrackedConn) Write(p []byte) (int, error) {
	c.sent.CompareAndSwap(0, time.Now().UnixNano())
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *TrackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.sent.Store(0)
		c.dialer.received.Store(time.Now().UnixNano())
	}
	return n, err
}

// Close implements net.Conn.
func (c *TrackedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
