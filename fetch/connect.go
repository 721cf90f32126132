package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// A Way describes how to connect to a broker, and why.
type Way struct {
	TLS *tls.Config // nil without TLS
	Who string      // what errors call the other end
	// Member is the consumer that the connection to its coordinator is for; nil for a
	// connection of the fetcher.
	Member *Membership
	evicts bool // a member's connection may be closed for it
	// Wrap is called with the connection before anything is sent. Its error ends the
	// attempt; the connection is closed by then.
	Wrap func(net.Conn) (net.Conn, error)
}

// Connect connects to a broker of the cluster at one of the addresses of addr. Where the
// broker limits connections, a consumer that has not joined has to wait for its turn. Only
// the requests that open a connection are sent to another cluster.
func (f *Fetcher) Connect(ctx context.Context, addr string, w Way) (net.Conn, error) {
	c, err := f.connect(ctx, addr, w)
	if err != nil {
		return nil, err // not a nil *guardedConn
	}
	return c, nil
}

func (f *Fetcher) connect(ctx context.Context, addr string, w Way) (*guardedConn, error) {
	link, err := f.links.enter(addr, w)
	if err != nil {
		return nil, err
	}
	wire, at, err := f.addresses.dial(ctx, addr)
	if err != nil {
		link.leave()
		return nil, err
	}
	way := &way{addresses: &f.addresses, link: link, at: at, broker: named(addr, at), heard: f.links.heard(addr)}
	if at != addr {
		w.Who += " (" + at + ")"
	}
	conn, err := w.Wrap(&linkedConn{wire, link})
	if err != nil {
		return nil, err
	}
	link.conn = conn
	ready, err := handshake(ctx, conn, addr, w.TLS, w.Who, way)
	if err != nil {
		return nil, err
	}
	return f.o.Pin.guard(ready, way), nil
}

// A way records the results of opening a connection.
type way struct {
	addresses *addresses
	link      *linkConn
	at        string // ip:port
	broker    string // the address, and the one that it was resolved to
	heard     *atomic.Int64
}

// hear records that n bytes of a later response were received.
func (w *way) hear(n int) {
	if n > 0 {
		w.heard.Store(time.Now().UnixNano())
	}
}

// answer records the first response.
func (w *way) answer() {
	w.addresses.note(w.at, true)
	w.link.answer()
}

// fail returns what err means. The error of a connection that the agent closed says nothing
// about the broker.
func (w *way) fail(err error) error {
	if err = w.evicted(err); errors.Is(err, net.ErrClosed) || errors.As(err, new(*FullError)) {
		return err
	}
	w.addresses.note(w.at, false)
	if err = w.link.fail(w.broker, err); w.at == w.link.addr || errors.As(err, new(*FullError)) {
		return err
	}
	return &addressError{w.at, err}
}

// An addressError is why one address of a name did not respond.
type addressError struct {
	at  string // ip:port
	err error
}

func (e *addressError) Error() string {
	if errors.As(e.err, new(StrangerError)) { // which names it
		return e.err.Error()
	}
	return "address " + e.at + ": " + e.err.Error()
}

func (e *addressError) Unwrap() error { return e.err }

// evicted returns why the agent closed the connection, if it did for another one.
func (w *way) evicted(err error) error {
	if err != nil {
		if why := w.link.why(); why != nil {
			return why
		}
	}
	return err
}

// A linkedConn counts as a connection to its broker until it is closed.
type linkedConn struct {
	net.Conn
	link *linkConn
}

// Close implements [net.Conn].
func (c *linkedConn) Close() error {
	c.link.leave()
	return c.Conn.Close()
}
