package fetch

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
)

// answerTime is how long a broker may send nothing of an answer, beyond MaxWait.
// Behind it the broker counts as a black hole.
const answerTime = 10 * time.Second

// A conn is one connection to one broker. sarama opens it, negotiates versions
// and authenticates; most requests go through it, too, but for those of wire.go. It
// cannot cancel a request, and its Close waits for the one in flight; so the
// socket is kept at hand.
type conn struct {
	broker   *sarama.Broker
	conf     *sarama.Config
	used     bool                                       // an answer came over it
	speaks   map[kmsg.Key]sarama.ApiVersionsResponseKey // nil before prepare
	sent     int32                                      // requests that are not sarama's so far
	out      []byte
	patience time.Duration // how long the broker may send nothing
	heard    *atomic.Int64 // broker.heard; nil if the connection brings no records

	mu     sync.Mutex
	socket *guardedConn // with TLS, if there is any
	wire   net.Conn     // without
	cut    bool
	uncut  func() bool
}

// dial connects to one of the addresses of addr; it ends early with ctx. If the broker
// does not accept enough connections, one that evicts takes that of a member.
func (f *Fetcher) dial(ctx context.Context, addr string, evicts bool) (*conn, error) {
	failed := make(map[string]error) // by text
	for tries, began := 1, time.Now(); ; tries++ {
		c, err := f.dialOne(ctx, addr, evicts)
		if err == nil {
			return c, nil
		}
		failed[err.Error()] = err
		another := errors.As(err, new(*addressError)) && tries < f.addresses.count(addr) && time.Since(began) < answerTime+dialMargin
		switch {
		case another && ctx.Err() == nil:
		case len(failed) == 1:
			return nil, err
		default:
			return nil, unreachable(failed)
		}
	}
}

// dialMargin is how much longer than one unresponsive address the dial of a name may
// take before it moves on to the next one.
const dialMargin = 5 * time.Second

// dialOne connects to addr.
func (f *Fetcher) dialOne(ctx context.Context, addr string, evicts bool) (*conn, error) {
	base, err := f.o.Config()
	if err != nil {
		return nil, fmt.Errorf("read kafka settings: %w", err)
	}
	f.mu.Lock()
	wait := f.set.MaxWait
	f.mu.Unlock()
	conf := *base
	conf.Net.ReadTimeout = wait + answerTime
	c := &conn{broker: sarama.NewBroker(addr), conf: &conf, patience: conf.Net.ReadTimeout}
	dialer := &ownDialer{conn: c, ctx: ctx, timeout: conf.Net.DialTimeout, f: f, evicts: evicts}
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
		c.close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return c, nil
}

// dialAny connects to the first of addrs that answers, and says why others have
// failed before it.
func (f *Fetcher) dialAny(ctx context.Context, addrs []string, evicts bool) (won *conn, failed map[string]error) {
	trying, stop := context.WithCancel(ctx)
	defer stop()
	failed = make(map[string]error)
	var mu sync.Mutex
	take := func(c *conn, addr string, err error) (taken bool) {
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
			if c, err := f.dial(trying, addr, evicts); !take(c, addr, err) && c != nil {
				c.close()
			}
		})
	}
	dialling.Wait()
	return won, failed
}

// follow has the connection end with ctx instead of that which it was made with;
// false if it has ended already.
func (c *conn) follow(ctx context.Context) bool {
	if !c.uncut() {
		return false
	}
	c.uncut = context.AfterFunc(ctx, c.shut)
	return true
}

// shut closes the socket, whatever goes on.
func (c *conn) shut() {
	c.mu.Lock()
	c.cut = true
	wire := c.wire
	c.mu.Unlock()
	if wire != nil {
		_ = wire.Close() // TLS would first say goodbye, to a broker that may be deaf
	}
}

// close ends the connection and sarama's goroutines for it.
func (c *conn) close() {
	c.uncut()
	c.shut()
	_ = c.broker.Close() // its socket is closed: it can only say so
}

// An ownDialer makes the connection of a conn.
type ownDialer struct {
	conn    *conn
	ctx     context.Context // sarama's Dial has none
	timeout time.Duration
	tls     *tls.Config
	f       *Fetcher
	evicts  bool
}

// Dial implements proxy.Dialer.
func (d *ownDialer) Dial(_, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	var wire net.Conn
	socket, err := d.f.connect(ctx, addr, Way{TLS: d.tls, Who: "it", evicts: d.evicts, Wrap: func(c net.Conn) (net.Conn, error) {
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

// ofNetwork reports that err came from the connection, not from what was read.
func ofNetwork(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || errors.Is(err, sarama.ErrNotConnected) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EPIPE)
}

// Reach connects to a broker, authenticates, checks the cluster and closes the connection.
func (f *Fetcher) Reach(ctx context.Context, addr string) error {
	c, err := f.dial(ctx, addr, false)
	if err != nil {
		return err
	}
	defer c.close()
	return c.socket.verify()
}
