// Package dial connects to the brokers of one cluster, for package wire and for sarama's group
// clients.
//
//   - A host name may have several addresses. The [Dialer] tries those that did not respond
//     lately last, and its errors name every one of them.
//   - What is not a broker is detected before sarama reads from it: see [StrangerError].
//   - Connections to another cluster than the one of the [Pin] are used only for the requests
//     that open a connection and identify the cluster.
//   - Where a broker limits connections, those that fetch come first, then those of consumers
//     that have joined their groups: see [FullError].
//
// Start reading at [Dialer.Connect].
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// A Options describes how to connect to a broker, and why.
type Options struct {
	TLS *tls.Config // nil without TLS
	Who string      // what errors call the other end
	// Member is the consumer that the connection to its coordinator is for; nil for a
	// connection of the fetcher.
	Member *Membership
	Evicts bool // a member's connection may be closed for it
	// Wrap is called with the connection before anything is sent. Its error ends the
	// attempt; the connection is closed by then.
	Wrap func(net.Conn) (net.Conn, error)
}

// A Dialer connects to the brokers of one cluster. Its methods are safe for concurrent use.
type Dialer struct {
	pin       *Pin
	links     links
	addresses addresses
}

// NewDialer returns a dialer for the cluster of the pin. lookup resolves host names; nil means
// the system's resolver.
func NewDialer(pin *Pin, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) *Dialer {
	if lookup == nil {
		lookup = lookUp
	}
	return &Dialer{pin: pin, addresses: addresses{lookup: lookup}}
}

// Pin returns the pin that each connection is checked against.
func (d *Dialer) Pin() *Pin { return d.pin }

// Full reports whether the broker at addr rejected a connection lately, presumably because
// it limits them.
func (d *Dialer) Full(addr string) bool { return d.links.full(addr) }

// AddressCount returns how many addresses addr had when it was last resolved, at least 1.
func (d *Dialer) AddressCount(addr string) int { return d.addresses.count(addr) }

// Connect connects to a broker of the cluster at one of the addresses of addr. Where the
// broker limits connections, a consumer that has not joined has to wait for its turn. Only
// the requests that open a connection are sent to another cluster.
func (d *Dialer) Connect(ctx context.Context, addr string, w Options) (*Conn, error) {
	link, err := d.links.enter(addr, w)
	if err != nil {
		return nil, err
	}
	wire, at, err := d.addresses.dial(ctx, addr)
	if err != nil {
		link.leave()
		return nil, err
	}
	way := &way{addresses: &d.addresses, link: link, at: at, broker: named(addr, at), heard: d.links.heard(addr)}
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
	return d.pin.guard(ready, way), nil
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
	return &AddressError{w.at, err}
}

// An AddressError is why one address of a name did not respond.
type AddressError struct {
	at  string // ip:port
	err error
}

func (e *AddressError) Error() string {
	if errors.As(e.err, new(StrangerError)) { // which names it
		return e.err.Error()
	}
	return "address " + e.at + ": " + e.err.Error()
}

func (e *AddressError) Unwrap() error { return e.err }

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
