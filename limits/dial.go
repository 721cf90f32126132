package limits

import (
	"context"
	"net"
	"sync"
)

// Dial is dialer.DialContext for a connection that counts in the budget until it is closed,
// and whose errors are stable, see [StableError]. If the budget is used up, it fails at once
// with a [*net.OpError] like that of the system.
func (b *Budget) Dial(ctx context.Context, dialer *net.Dialer, network, addr string) (net.Conn, error) {
	if !b.Acquire(1) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address{network, addr}, Err: b.Err()}
	}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		b.Release(1)
		return nil, StableError(err, nil)
	}
	return &countedConn{Conn: stableConn{conn}, release: sync.OnceFunc(func() { b.Release(1) })}, nil
}

// A countedConn returns its descriptor to the budget when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

// Close implements [net.Conn].
func (c *countedConn) Close() error {
	defer c.release() // the descriptor is open until then
	return c.Conn.Close()
}

// An address that was not resolved.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }
