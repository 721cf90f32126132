package httpserver

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A new connection may be closed in favour of another one once nothing has arrived on it for
// newConnGrace, or at the latest after newConnMax. Without that time, the clients of a burst
// would close each other's connections while their requests are in transit. With more time,
// many clients that send nothing would delay a health check that waits behind them.
const (
	newConnGrace = 100 * time.Millisecond
	newConnMax   = 500 * time.Millisecond
)

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
	accepted time.Time
	received atomic.Int64   // when something arrived last, as time since accepted
	complete atomic.Bool    // what arrived last ends a request
	read     atomic.Int64   // bytes; recorded after received and complete
	state    http.ConnState // guarded by listener.mu
	since    time.Time      // of that state
}

// Read implements [net.Conn].
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.complete.Store(bytes.HasSuffix(p[:n], []byte("\r\n\r\n"))) // never with TLS
		c.received.Store(int64(time.Since(c.accepted)))
		c.read.Add(int64(n))
	}
	return n, err
}

// grace returns how long the connection without a request must not be closed yet.
func (c *clientConn) grace() time.Duration {
	arrived := hasInput(c.Conn, c.read.Load) // before what Read has recorded is looked at
	end := min(time.Duration(c.received.Load())+newConnGrace, newConnMax)
	rest := end - time.Since(c.accepted)
	if rest <= 0 && (arrived || c.complete.Load()) {
		return newConnGrace // the host is too busy to process what has arrived
	}
	return rest
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
	now := time.Now()
	c := &clientConn{Conn: conn, listener: l, accepted: now, state: http.StateNew, since: now}
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
	wait = time.Hour // until one changes
	for c := range l.conns {
		switch c.state {
		case http.StateIdle:
		case http.StateNew:
			if grace := c.grace(); grace > 0 {
				wait = min(wait, grace)
				continue
			}
		default:
			continue
		}
		if unused == nil || c.state == http.StateIdle && unused.state == http.StateNew ||
			c.state == unused.state && c.since.Before(unused.since) {
			unused = c
		}
	}
	if unused == nil {
		return nil, wait, true
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
