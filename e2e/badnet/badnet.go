// Package badnet is a faulty network between clients and servers, for tests: a [Proxy] in
// front of a server loses, delays, limits or resets what passes, and [Listen] is a server
// that never responds or closes connections.
package badnet

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Fault describes what a proxy does to connections. The zero value is no fault.
type Fault struct {
	Refuse         bool          // existing and new connections are reset
	LoseRequests   bool          // nothing reaches the server; connections stay open
	LoseAnswers    bool          // nothing reaches the client; connections stay open
	ResetAfter     int           // bytes of responses before a connection is reset; 0 is no limit
	Latency        time.Duration // in each direction
	BytesPerSecond int           // of the responses of each connection; 0 is no limit
	SmallPieces    bool          // responses arrive a few bytes at a time
	Most           int           // open connections; further ones are closed at once; 0 is no limit
}

// A Proxy forwards connections to a server. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	server string
	others []string // used in turn instead of server
	from   string   // local address of connections to the server; "" is any
	fault  Fault
	pairs  map[*pair]struct{}
	made   int // connections since the start
	sent   int // bytes of responses since the start
	ended  bool

	redirects int // calls of Redirect that reset the connections
}

// Start starts a proxy for server that ends with the test.
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

// Addr returns the address of the proxy for clients.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set sets the fault of new and existing connections. It resets the existing connections
// that have lost data before.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	p.fault = f
	p.mu.Unlock()
	p.reset(func(c *pair) bool { return f.Refuse || c.spoiled })
}

// Connections returns the number of connections since the start.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

// ResponseBytes returns the number of bytes of responses since the start.
func (p *Proxy) ResponseBytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// now returns the current fault.
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

// A pair is the connection of a client and the one to the server.
type pair struct {
	client, server *net.TCPConn
	gone           chan struct{} // closed when the pair is
	once           sync.Once
	spoiled        bool // data were lost; guarded by Proxy.mu
}

// reset closes both connections by RST.
func (c *pair) reset() {
	c.once.Do(func() {
		close(c.gone)
		for _, end := range []*net.TCPConn{c.client, c.server} {
			_ = end.SetLinger(0)
			_ = end.Close()
		}
	})
}

// close closes both connections by FIN, as a broker does above its limit of connections.
func (c *pair) close() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	redirects := p.redirects
	p.mu.Unlock()
	server, err := p.next()
	if err != nil {
		_ = client.Close()
		return
	}
	c := &pair{client: client, server: server.(*net.TCPConn), gone: make(chan struct{})}
	p.mu.Lock()
	p.pairs[c] = struct{}{}
	p.made++
	refused := p.fault.Refuse || p.ended || p.redirects != redirects // the reset did not find it
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

// A parcel is data with the time of its delivery.
type parcel struct {
	data []byte
	due  time.Time
}

// carry forwards data from one connection to the other until the pair is closed.
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

// deliver writes data with the current fault. It returns false if the pair is closed.
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

// piece returns how many of n bytes to send, and the pause before.
func (f Fault) piece(n int) (int, time.Duration) {
	switch {
	case f.BytesPerSecond > 0:
		n = min(n, max(1, f.BytesPerSecond/10))
		return n, time.Duration(n) * time.Second / time.Duration(f.BytesPerSecond)
	case f.SmallPieces:
		return min(n, 97), time.Microsecond
	}
	return n, 0
}

// wait waits for d. It returns false if the pair is closed.
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
