// Package wire sends requests to one broker over one connection and reads the responses.
//
// sarama opens the connection, negotiates versions and authenticates. Requests that sarama
// would answer with an object for each record, or one after the other, are sent between two of
// its own: fetches, lookups of coordinators and leader epochs, and those of a [Link].
//
// Every error is either one of the connection ([IsConnectionError]), after which another
// connection or another broker may do, or a [dial.ResponseError], for which it would not help.
//
// Start reading at [Opener.Open] and [Conn.Fetch].
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/dial"
)

// A Conn is one connection to one broker. sarama opens it, negotiates versions
// and authenticates; most requests go through it, too, but for those of wire.go. It
// cannot cancel a request, and its Close waits for the one in flight; so the
// socket is kept at hand.
type Conn struct {
	broker   *sarama.Broker
	conf     *sarama.Config
	pin      *dial.Pin
	speaks   map[kmsg.Key]sarama.ApiVersionsResponseKey // nil before prepare
	sent     int32                                      // requests that are not sarama's so far
	out      []byte
	patience time.Duration // how long the broker may send nothing
	progress *atomic.Int64 // see SetProgress

	mu     sync.Mutex
	socket *dial.Conn // with TLS, if there is any
	wire   net.Conn   // without
	cut    bool
	uncut  func() bool
}

// An Opener opens connections to the brokers of one cluster, with sarama's settings. Its
// methods are safe for concurrent use.
type Opener struct {
	dialer  *dial.Dialer
	config  func() (*sarama.Config, error)
	maxWait atomic.Int64 // a time.Duration
}

// NewOpener returns an opener. config is called for each connection, from several goroutines
// at once; its result is copied.
func NewOpener(dialer *dial.Dialer, config func() (*sarama.Config, error)) *Opener {
	return &Opener{dialer: dialer, config: config}
}

// Dialer returns the dialer of the connections.
func (o *Opener) Dialer() *dial.Dialer { return o.dialer }

// SetMaxWait sets how long a broker may hold back the response to a fetch, for connections
// that are opened from now on.
func (o *Opener) SetMaxWait(d time.Duration) { o.maxWait.Store(int64(d)) }

// Open connects to one of the addresses of addr; it ends early with ctx. If the broker
// does not accept enough connections, one that evicts takes that of a member.
func (o *Opener) Open(ctx context.Context, addr string, evicts bool) (*Conn, error) {
	failed := make(map[string]error) // by text
	for tries, began := 1, time.Now(); ; tries++ {
		c, err := o.openOne(ctx, addr, evicts)
		if err == nil {
			return c, nil
		}
		failed[err.Error()] = err
		another := errors.As(err, new(*dial.AddressError)) && tries < o.dialer.AddressCount(addr) && time.Since(began) < dial.ResponseTimeout+dialMargin
		switch {
		case another && ctx.Err() == nil:
		case len(failed) == 1:
			return nil, err
		default:
			return nil, dial.Unreachable(failed)
		}
	}
}

// dialMargin is how much longer than one unresponsive address the dial of a name may
// take before it moves on to the next one.
const dialMargin = 5 * time.Second

// openOne connects to addr.
func (o *Opener) openOne(ctx context.Context, addr string, evicts bool) (*Conn, error) {
	base, err := o.config()
	if err != nil {
		return nil, fmt.Errorf("read kafka settings: %w", err)
	}
	conf := *base
	conf.Net.ReadTimeout = time.Duration(o.maxWait.Load()) + dial.ResponseTimeout
	c := &Conn{broker: sarama.NewBroker(addr), conf: &conf, pin: o.dialer.Pin(), patience: conf.Net.ReadTimeout}
	dialer := &ownDialer{conn: c, ctx: ctx, timeout: conf.Net.DialTimeout, dialer: o.dialer, evicts: evicts}
	if conf.Net.TLS.Enable {
		// sarama would keep the encrypted connection to itself.
		dialer.tls, conf.Net.TLS.Enable = conf.Net.TLS.Config, false
	}
	conf.Net.Proxy.Enable, conf.Net.Proxy.Dialer = true, dialer
	c.uncut = context.AfterFunc(ctx, c.shut)
	err = c.broker.Open(&conf)
	if err == nil {
		var ok bool
		if ok, err = c.broker.Connected(); !ok && err == nil {
			err = sarama.ErrNotConnected
		}
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return c, nil
}

// OpenFirst connects to the first of addrs that answers, and says why others have
// failed before it.
func (o *Opener) OpenFirst(ctx context.Context, addrs []string, evicts bool) (won *Conn, failed map[string]error) {
	trying, stop := context.WithCancel(ctx)
	defer stop()
	failed = make(map[string]error)
	var mu sync.Mutex
	take := func(c *Conn, addr string, err error) (taken bool) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case won != nil:
			return false
		case err != nil:
			failed[addr] = err
			return false
		case !c.follow(ctx):
			failed[addr] = net.ErrClosed
			return false
		}
		won = c
		stop()
		return true
	}
	var dialling sync.WaitGroup
	for _, addr := range addrs {
		dialling.Go(func() {
			if c, err := o.Open(trying, addr, evicts); !take(c, addr, err) && c != nil {
				c.Close()
			}
		})
	}
	dialling.Wait()
	return won, failed
}

// follow has the connection end with ctx instead of that which it was made with;
// false if it has ended already.
func (c *Conn) follow(ctx context.Context) bool {
	if !c.uncut() {
		return false
	}
	c.uncut = context.AfterFunc(ctx, c.shut)
	return true
}

// shut closes the socket, whatever goes on.
func (c *Conn) shut() {
	c.mu.Lock()
	c.cut = true
	wire := c.wire
	c.mu.Unlock()
	if wire != nil {
		_ = wire.Close() // TLS would first say goodbye, to a broker that may be deaf
	}
}

// Close ends the connection and sarama's goroutines for it.
func (c *Conn) Close() {
	c.uncut()
	c.shut()
	_ = c.broker.Close() // its socket is closed: it can only say so
}

// An ownDialer makes the connection of a conn.
type ownDialer struct {
	conn    *Conn
	ctx     context.Context // sarama's Dial has none
	timeout time.Duration
	tls     *tls.Config
	dialer  *dial.Dialer
	evicts  bool
}

// Dial implements proxy.Dialer.
func (d *ownDialer) Dial(_, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	var wire net.Conn
	socket, err := d.dialer.Connect(ctx, addr, dial.Options{TLS: d.tls, Who: "it", Evicts: d.evicts, Wrap: func(c net.Conn) (net.Conn, error) {
		wire = c
		return c, nil
	}})
	if err != nil {
		return nil, err
	}
	d.conn.mu.Lock()
	defer d.conn.mu.Unlock()
	if d.conn.cut {
		_ = wire.Close()
		return nil, net.ErrClosed
	}
	d.conn.socket, d.conn.wire = socket, wire
	return socket, nil
}

// IsConnectionError reports that err came from the connection, not from what was read.
func IsConnectionError(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || errors.Is(err, sarama.ErrNotConnected) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EPIPE)
}

// LoginRejected reports whether err says that the broker rejected the credentials: another
// broker would do so, too.
func LoginRejected(err error) bool { return errors.Is(err, sarama.ErrSASLAuthenticationFailed) }

// Reach connects to a broker, authenticates, checks the cluster and closes the connection.
func (o *Opener) Reach(ctx context.Context, addr string) error {
	c, err := o.Open(ctx, addr, false)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.socket.VerifyCluster()
}

// Addr returns the address of the broker, host:port.
func (c *Conn) Addr() string { return c.broker.Addr() }

// SetProgress makes the connection record in at, in Unix nanoseconds, when a part of a long
// response arrived, to about a second.
func (c *Conn) SetProgress(at *atomic.Int64) { c.progress = at }

// NewOffsetRequest returns a request for [Conn.Offsets].
func (c *Conn) NewOffsetRequest(iso sarama.IsolationLevel) *sarama.OffsetRequest {
	req := sarama.NewOffsetRequest(c.conf.Version)
	req.IsolationLevel = iso
	return req
}

// Offsets asks the broker for offsets of partitions that it leads.
func (c *Conn) Offsets(req *sarama.OffsetRequest) (*sarama.OffsetResponse, error) {
	return c.broker.GetAvailableOffsets(req)
}

// Metadata asks the broker for the metadata of topics; nil means all. It never has a topic
// created, and it fails if the broker belongs to another cluster.
func (c *Conn) Metadata(topics []string) (*sarama.MetadataResponse, error) {
	req := sarama.NewMetadataRequest(c.conf.Version, topics)
	req.AllowAutoTopicCreation = false // a typo must not make a topic
	resp, err := c.broker.GetMetadata(req)
	if err == nil {
		err = c.pin.Check(c.broker.Addr(), resp.ClusterID)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.socket.SetCluster(resp.ClusterID)
	return resp, nil
}
