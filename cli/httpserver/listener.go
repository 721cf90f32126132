package httpserver

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// newConnGrace is how long a new connection has for its first request before it may be
// closed in favour of another one. Without it, the clients of a burst would close each
// other's connections while their requests are in transit.
const newConnGrace = 500 * time.Millisecond

// A clientListener limits how many connections of HTTP clients are open. At the limit it
// closes a connection that is not in use, so that idle clients cannot lock out a health
// check: the connection that has been idle for the longest time, else the oldest one
// without a complete request. It never closes a connection whose request is being
// answered; if all of them are, the next client waits.
//
// As with every keep-alive timeout, a request may be in transit on the connection that is
// closed. Clients repeat it, because all requests of the API are GET or HEAD.
type clientListener struct {
	net.Listener
	limit   int           // one more may be accepted and wait
	changed chan struct{} // has a token after a connection was closed or became idle
	closed  chan struct{}
	close   func() error // once

	mu    sync.Mutex
	conns map[*clientConn]struct{}
}

// Limit returns a listener that has at most limit connections open. The server must serve
// it; its ConnState is set here and must not be replaced.
func Limit(server *http.Server, l net.Listener, limit int) net.Listener {
	c := &clientListener{
		Listener: l, limit: limit - 1, conns: make(map[*clientConn]struct{}),
		changed: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	c.close = sync.OnceValue(func() error {
		close(c.closed)
		return l.Close()
	})
	server.ConnState = c.setState
	return c
}

// A clientConn is a connection that counts until it is closed.
type clientConn struct {
	net.Conn
	listener *clientListener
	state    http.ConnState // guarded by listener.mu
	since    time.Time      // of that state
}

// Accept implements [net.Listener].
func (l *clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.makeRoom() {
		conn.Close()
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := &clientConn{Conn: conn, listener: l, state: http.StateNew, since: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c, nil
}

// Close implements [net.Listener].
func (l *clientListener) Close() error { return l.close() }

// makeRoom waits until there are fewer connections than the limit, and closes an unused
// one if there is any. It returns false if the listener was closed meanwhile.
func (l *clientListener) makeRoom() bool {
	for {
		unused, wait, full := l.takeUnused()
		if !full {
			return true
		}
		if unused != nil {
			unused.Conn.Close() // not through TLS, which would wait for the client
			return true
		}
		select {
		case <-l.changed:
		case <-time.After(wait):
		case <-l.closed:
			return false
		}
	}
}

// takeUnused reports whether the limit is reached. If so, it returns an unused connection
// for the caller to close, which no longer counts, or how long to wait before the next
// call.
func (l *clientListener) takeUnused() (unused *clientConn, wait time.Duration, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) < l.limit {
		return nil, 0, false
	}
	for c := range l.conns {
		switch {
		case c.state != http.StateIdle && c.state != http.StateNew:
		case unused == nil,
			c.state == http.StateIdle && unused.state == http.StateNew,
			c.state == unused.state && c.since.Before(unused.since):
			unused = c
		}
	}
	if unused == nil {
		return nil, time.Hour, true // until one changes
	}
	if unused.state == http.StateNew {
		if wait = newConnGrace - time.Since(unused.since); wait > 0 {
			return nil, wait, true
		}
	}
	delete(l.conns, unused)
	return unused, 0, true
}

// setState is [http.Server.ConnState].
func (l *clientListener) setState(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(*clientConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.state, c.since = state, time.Now()
	if state == http.StateIdle {
		l.signal()
	}
}

// signal wakes makeRoom.
func (l *clientListener) signal() {
	select {
	case l.changed <- struct{}{}:
	default: // makeRoom has a signal already
	}
}

// Close implements [net.Conn].
func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	delete(c.listener.conns, c)
	c.listener.signal()
	return err
}
