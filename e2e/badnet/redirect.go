package badnet

import "net"

// Redirect forwards new connections to another server, as a change of DNS or of a load
// balancer does. Existing connections are reset unless keep is set.
func (p *Proxy) Redirect(server string, keep bool) {
	p.mu.Lock()
	p.server = server
	if !keep {
		p.redirects++
	}
	p.mu.Unlock()
	p.reset(func(*pair) bool { return !keep })
}

// Alternate forwards each new connection to the next of servers.
func (p *Proxy) Alternate(servers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = servers
}

// From sets the address from which the proxy connects to the server.
func (p *Proxy) From(ip string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from = ip
}

// next connects to the server of a new connection.
func (p *Proxy) next() (net.Conn, error) {
	p.mu.Lock()
	server, dialer := p.server, new(net.Dialer)
	if len(p.others) > 0 {
		server = p.others[0]
		p.others = append(p.others[1:len(p.others):len(p.others)], server)
	}
	if p.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(p.from)}
	}
	p.mu.Unlock()
	return dialer.Dial("tcp", server)
}

// Behind returns l with the address of the proxy, for a server that advertises the address
// of its listener.
func (p *Proxy) Behind(l net.Listener) net.Listener { return behind{l, p.listener.Addr()} }

type behind struct {
	net.Listener
	addr net.Addr
}

func (b behind) Addr() net.Addr { return b.addr }

// Server returns the address of the server.
func (p *Proxy) Server() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}
