package badnet

import "net"

// Redirect leads to another server from now on, as a change of DNS or of a load
// balancer does. Connections that exist stay with keep, else they are reset.
func (p *Proxy) Redirect(server string, keep bool) {
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	p.reset(func(*pair) bool { return !keep })
}

// Alternate leads each new connection to the next of servers.
func (p *Proxy) Alternate(servers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = servers
}

// From has the server see all connections come from ip.
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

// Behind returns l with the address of the proxy, which its server then tells clients
// instead of its own.
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
