// Package dial connects to the brokers of one cluster, for package wire and for sarama's group
// clients.
//
//   - A host name may have several addresses. The [Dialer] tries those that did not respond
//     lately last, and its errors name every one of them.
//   - A server that is not a broker is detected before sarama reads from it: see [NotKafkaError].
//   - Connections to another cluster than the one of the [Pin] are used only for the requests
//     that open a connection and identify the cluster.
//   - Where a broker limits connections, those that fetch come first, then those of consumers
//     that have joined their groups: see [ConnectionLimitError].
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

	"kcagent/limits"
)

// Options describe how to connect to a broker, and for whom.
type Options struct {
	TLS  *tls.Config // nil means without TLS
	Peer string      // how errors name the other end
	// Member is the consumer that connects to its coordinator; nil for a connection of the
	// fetcher.
	Member *Membership
	Evict  bool // a member's connection may be closed for this one
	// Wrap is called with the connection before anything is sent, and returns the connection
	// to use. Its error ends the attempt. Wrap then has closed the connection.
	Wrap func(net.Conn) (net.Conn, error)
}

// A Dialer connects to the brokers of one cluster. Its methods are safe for concurrent use.
type Dialer struct {
	pin       *Pin
	limiter   limiter
	addresses addresses
}

// NewDialer returns a dialer for the cluster of the pin. lookup resolves host names; nil means
// the system's resolver.
func NewDialer(pin *Pin, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) *Dialer {
	if lookup == nil {
		lookup = systemLookup
	}
	return &Dialer{pin: pin, addresses: addresses{lookup: lookup}}
}

// Pin returns the pin that each connection is checked against.
func (d *Dialer) Pin() *Pin { return d.pin }

// AtLimit reports whether the broker at addr rejected a connection lately, presumably because it
// limits them.
func (d *Dialer) AtLimit(addr string) bool { return d.limiter.atLimit(addr) }

// AddressCount returns how many addresses addr had when it was last resolved, at least 1.
func (d *Dialer) AddressCount(addr string) int { return d.addresses.count(addr) }

// Connect connects to a broker of the cluster at one of the addresses of addr. Where the broker
// limits connections, a consumer that has not joined gets a [*ConnectionLimitError] while it has to wait.
// Only the requests that open a connection are sent to another cluster.
func (d *Dialer) Connect(ctx context.Context, addr string, o Options) (*Conn, error) {
	slot, err := d.limiter.admit(addr, o)
	if err != nil {
		return nil, err
	}
	budget := limits.Brokers()
	if o.Member != nil {
		budget = limits.Members()
	}
	raw, at, err := d.addresses.dial(ctx, addr, budget)
	if o.Evict && errors.As(err, new(limits.DescriptorError)) && d.limiter.evictFor(err) {
		raw, at, err = d.addresses.dial(ctx, addr, budget)
	}
	if err != nil {
		slot.release()
		return nil, err
	}
	a := &attempt{addresses: &d.addresses, slot: slot, at: at, broker: withAddress(addr, at), respondedAt: d.limiter.respondedAt(addr)}
	if at != addr {
		o.Peer += " (" + at + ")"
	}
	conn, err := o.Wrap(&slotConn{raw, slot})
	if err != nil {
		return nil, err
	}
	slot.conn = conn
	ready, err := handshake(ctx, conn, addr, o.TLS, o.Peer, a)
	if err != nil {
		return nil, err
	}
	return d.pin.guard(ready, a), nil
}

// An attempt records the result of opening one connection: for its address, and for the limit of
// its broker.
type attempt struct {
	addresses   *addresses
	slot        *slot
	at          string // ip:port
	broker      string // the address as it was given, and the one that it was resolved to
	respondedAt *atomic.Int64
}

// recordBytes records that n bytes of a response after the first one arrived.
func (a *attempt) recordBytes(n int) {
	if n > 0 {
		a.respondedAt.Store(time.Now().UnixNano())
	}
}

// succeed records the first response.
func (a *attempt) succeed() {
	a.addresses.record(a.at, true)
	a.slot.recordResponse()
}

// fail records an error before the first response, and returns what it means. If the agent closed
// the connection, the error says nothing about the broker.
func (a *attempt) fail(err error) error {
	if err = a.evictionOr(err); errors.Is(err, net.ErrClosed) || errors.As(err, new(*ConnectionLimitError)) {
		return err
	}
	a.addresses.record(a.at, false)
	if err = a.slot.recordFailure(a.broker, err); a.at == a.slot.addr || errors.As(err, new(*ConnectionLimitError)) {
		return err
	}
	return &AddressError{a.at, err}
}

// evictionOr returns err, or why the agent closed the connection in favour of another one.
func (a *attempt) evictionOr(err error) error {
	if err != nil {
		if eviction := a.slot.evictedFor(); eviction != nil {
			return eviction
		}
	}
	return err
}

// An AddressError says why one address of a name did not respond.
type AddressError struct {
	at  string // ip:port
	err error
}

func (e *AddressError) Error() string {
	if errors.As(e.err, new(NotKafkaError)) { // its text has the address
		return e.err.Error()
	}
	return "address " + e.at + ": " + e.err.Error()
}

// Unwrap returns the cause.
func (e *AddressError) Unwrap() error { return e.err }

// A slotConn occupies its slot until it is closed.
type slotConn struct {
	net.Conn
	slot *slot
}

// Close implements [net.Conn].
func (c *slotConn) Close() error {
	c.slot.release()
	return c.Conn.Close()
}
