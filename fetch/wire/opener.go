package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/dial"
)

// An Opener opens connections to the brokers of one cluster, with sarama's settings. Its
// methods are safe for concurrent use.
type Opener struct {
	dialer  *dial.Dialer
	config  func() (*sarama.Config, error)
	failed  func(error)  // may be nil
	maxWait atomic.Int64 // a time.Duration
}

// NewOpener returns an opener. config returns sarama's settings. It is called for each connection,
// from several goroutines at once, and its result is copied. failed is called with the error of
// each connection that could not be opened with these settings, also from several goroutines; it
// may be nil.
func NewOpener(dialer *dial.Dialer, config func() (*sarama.Config, error), failed func(error)) *Opener {
	return &Opener{dialer: dialer, config: config, failed: failed}
}

// Dialer returns the dialer of the connections.
func (o *Opener) Dialer() *dial.Dialer { return o.dialer }

// SetMaxWait sets how long a broker may hold back the response to a fetch, for connections
// that are opened from now on.
func (o *Opener) SetMaxWait(d time.Duration) { o.maxWait.Store(int64(d)) }

// Open connects to one of the addresses of addr and authenticates. The connection ends with ctx. If
// the broker limits connections, evict permits closing that of a group member for this one.
func (o *Opener) Open(ctx context.Context, addr string, evict bool) (*Conn, error) {
	failed := make(map[string]error) // by their texts
	for tries, began := 1, time.Now(); ; tries++ {
		c, err := o.openOne(ctx, addr, evict)
		if err == nil {
			return c, nil
		}
		failed[err.Error()] = err
		otherAddress := errors.As(err, new(*dial.AddressError)) && tries < o.dialer.AddressCount(addr) && time.Since(began) < dial.ResponseTimeout+dialMargin
		switch {
		case otherAddress && ctx.Err() == nil:
		case len(failed) == 1:
			return nil, err
		default:
			return nil, dial.Unreachable(failed)
		}
	}
}

// dialMargin is how long after the timeout of an unresponsive address Open may still try the next
// address of the name.
const dialMargin = 5 * time.Second

// openOne makes one attempt to connect to addr.
func (o *Opener) openOne(ctx context.Context, addr string, evict bool) (*Conn, error) {
	base, err := o.config()
	if err != nil {
		return nil, fmt.Errorf("read kafka settings: %w", err)
	}
	conf := *base
	conf.Net.ReadTimeout = time.Duration(o.maxWait.Load()) + dial.ResponseTimeout
	c := &Conn{broker: sarama.NewBroker(addr), conf: &conf, pin: o.dialer.Pin(), timeout: conf.Net.ReadTimeout}
	dialer := &saramaDialer{conn: c, ctx: ctx, timeout: conf.Net.DialTimeout, dialer: o.dialer, evict: evict}
	if conf.Net.TLS.Enable {
		// saramaDialer starts TLS, because sarama would wrap the connection that Conn reads from.
		dialer.tls, conf.Net.TLS.Enable = conf.Net.TLS.Config, false
	}
	conf.Net.Proxy.Enable, conf.Net.Proxy.Dialer = true, dialer
	c.unbind = context.AfterFunc(ctx, c.closeSocket)
	err = c.broker.Open(&conf)
	if err == nil {
		var ok bool
		if ok, err = c.broker.Connected(); !ok && err == nil {
			err = sarama.ErrNotConnected
		}
	}
	if err != nil {
		c.Close()
		err = fmt.Errorf("connect to %s: %w", addr, err)
		if o.failed != nil {
			o.failed(err)
		}
		return nil, err
	}
	return c, nil
}

// OpenFirst connects to all of addrs at the same time, and returns the first connection that is
// open, nil if none is, and the errors of brokers that failed before it, by address.
func (o *Opener) OpenFirst(ctx context.Context, addrs []string, evict bool) (first *Conn, failed map[string]error) {
	trying, stop := context.WithCancel(ctx)
	defer stop()
	failed = make(map[string]error)
	var mu sync.Mutex
	use := func(c *Conn, addr string, err error) (used bool) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case first != nil:
			return false
		case err != nil:
			failed[addr] = err
			return false
		case !c.bindTo(ctx):
			failed[addr] = net.ErrClosed
			return false
		}
		first = c
		stop()
		return true
	}
	var opening sync.WaitGroup
	for _, addr := range addrs {
		opening.Go(func() {
			if c, err := o.Open(trying, addr, evict); !use(c, addr, err) && c != nil {
				c.Close()
			}
		})
	}
	opening.Wait()
	return first, failed
}

// Reach checks that the broker at addr can be used: it connects, authenticates, checks the cluster
// and closes the connection.
func (o *Opener) Reach(ctx context.Context, addr string) error {
	c, err := o.Open(ctx, addr, false)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.socket.VerifyCluster()
}

// A saramaDialer makes the connection of a Conn for sarama.
type saramaDialer struct {
	conn    *Conn
	ctx     context.Context // the interface of sarama's dialer has none
	timeout time.Duration
	tls     *tls.Config
	dialer  *dial.Dialer
	evict   bool
}

// Dial implements proxy.Dialer.
func (d *saramaDialer) Dial(_, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	var raw net.Conn
	socket, err := d.dialer.Connect(ctx, addr, dial.Options{TLS: d.tls, Peer: "it", Evict: d.evict, Wrap: func(c net.Conn) (net.Conn, error) {
		raw = c
		return c, nil
	}})
	if err != nil {
		return nil, err
	}
	d.conn.mu.Lock()
	defer d.conn.mu.Unlock()
	if d.conn.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	d.conn.socket, d.conn.raw = socket, raw
	return socket, nil
}
