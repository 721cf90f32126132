// Package badnet is a network between a client and a server that tests make bad.
package badnet

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Fault is what the way does to what passes. The zero value is a good one.
type Fault struct {
	Refuse       bool          // connections are reset, those that are there and each new one
	LoseRequests bool          // nothing reaches the server; connections stay
	LoseAnswers  bool          // nothing reaches the client; connections stay
	ResetAfter   int           // bytes of answers that a connection may bring before it is reset; 0 is no end
	Latency      time.Duration // in each direction
	BytesASecond int           // of the answers of each connection; 0 is no limit
	SmallPieces  bool          // answers come in a few bytes at a time
	Most         int           // connections that there may be at a time, each further one is closed at once; 0 is no limit
}

// A Proxy is the way to one server. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	server string
	others []string // takes turns instead of server
	from   string   // the address of the proxy to the server; "" is any
	fault  Fault
	pairs  map[*pair]struct{}
	made   int // connections so far
	sent   int // bytes of answers so far
	ended  bool
}

// Start opens a way to server that ends with the test.
func Start(t testing.TB, server string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: server, listener: l, pairs: make(map[*pair]struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.reset(func(*pair) bool { return true })
		p.running.Wait()
	})
	return p
}

// Addr is where clients reach the server.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set makes the way bad, or good again: for connections that are there, too, but
// those that lost something are reset.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	p.fault = f
	p.mu.Unlock()
	p.reset(func(c *pair) bool { return f.Refuse || c.spoiled })
}

// Connections is how many there have been.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

// Answered is how many bytes of answers there have been.
func (p *Proxy) Answered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

func (p *Proxy) now() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *Proxy) reset(which func(*pair) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if which(c) {
			c.reset()
		}
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

// A pair is one connection, by both its ends.
type pair struct {
	client, server *net.TCPConn
	gone           chan struct{} // closed once either end is
	once           sync.Once
	spoiled        bool // something was lost; the proxy's mu guards it
}

// reset ends it as a network does that was cut: without a goodbye.
func (c *pair) reset() {
	c.once.Do(func() {
		close(c.gone)
		for _, end := range []*net.TCPConn{c.client, c.server} {
			_ = end.SetLinger(0)
			_ = end.Close()
		}
	})
}

// close ends it as a broker does that has too many.
func (c *pair) close() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

func (p *Proxy) serve(client *net.TCPConn) {
	server, err := p.next()
	if err != nil {
		_ = client.Close()
		return
	}
	c := &pair{client: client, server: server.(*net.TCPConn), gone: make(chan struct{})}
	p.mu.Lock()
	p.pairs[c] = struct{}{}
	p.made++
	refused := p.fault.Refuse || p.ended
	full := p.fault.Most > 0 && len(p.pairs) > p.fault.Most
	p.mu.Unlock()
	switch {
	case refused:
		c.reset()
	case full:
		c.close()
	}
	var ways sync.WaitGroup
	ways.Go(func() { p.carry(c, c.client, c.server, true) })
	ways.Go(func() { p.carry(c, c.server, c.client, false) })
	ways.Wait()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// A parcel is some bytes on their way.
type parcel struct {
	data []byte
	due  time.Time
}

// carry moves what one end says to the other, until either is gone.
func (p *Proxy) carry(c *pair, from, to *net.TCPConn, requests bool) {
	defer c.reset()
	parcels := make(chan parcel, 4096)
	p.running.Go(func() {
		defer c.reset()
		sent := 0
		for b := range parcels {
			if !c.wait(time.Until(b.due)) || !p.deliver(c, to, b.data, requests, &sent) {
				return
			}
		}
	})
	defer close(parcels)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case parcels <- parcel{append([]byte(nil), buf[:n]...), time.Now().Add(p.now().Latency)}:
		case <-c.gone:
			return
		}
	}
}

// deliver does to data what the fault says; false if the connection is over.
func (p *Proxy) deliver(c *pair, to *net.TCPConn, data []byte, requests bool, sent *int) bool {
	for len(data) > 0 {
		f := p.now()
		if requests && f.LoseRequests || !requests && f.LoseAnswers {
			p.mu.Lock()
			c.spoiled = true
			p.mu.Unlock()
			return true
		}
		n := len(data)
		if !requests {
			var pause time.Duration
			n, pause = f.piece(n)
			if !c.wait(pause) {
				return false
			}
			if *sent += n; f.ResetAfter > 0 && *sent > f.ResetAfter {
				return false
			}
		}
		if _, err := to.Write(data[:n]); err != nil {
			return false
		}
		if !requests {
			p.mu.Lock()
			p.sent += n
			p.mu.Unlock()
		}
		data = data[n:]
	}
	return true
}

// piece is how much of n bytes to send after which pause.
func (f Fault) piece(n int) (int, time.Duration) {
	switch {
	case f.BytesASecond > 0:
		n = min(n, max(1, f.BytesASecond/10))
		return n, time.Duration(n) * time.Second / time.Duration(f.BytesASecond)
	case f.SmallPieces:
		return min(n, 97), time.Microsecond
	}
	return n, 0
}

// wait lets time pass; false if the connection is over.
func (c *pair) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}
