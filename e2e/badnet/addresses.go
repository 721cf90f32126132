package badnet

import (
	"net"
	"testing"
)

// ListenAt listens on the same port at several addresses of the loopback network, by IP
// address. Each function gets the connections to its address; where it is nil, connections
// are refused. ListenAt returns the port. It skips the test where the system does not have
// such addresses.
func ListenAt(t testing.TB, serve map[string]func(net.Conn)) (port string) {
	t.Helper()
	port = "0"
	var refusing []net.Listener
	for ip, serve := range serve {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
		if err != nil {
			t.Skipf("listen at %s: %v", ip, err)
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		if serve == nil {
			refusing = append(refusing, l) // until all addresses have the same port
			continue
		}
		accept(t, l, serve)
	}
	for _, l := range refusing {
		_ = l.Close()
	}
	return port
}

// Forward returns a function that forwards a connection to the server at addr.
func Forward(t testing.TB, addr string) func(net.Conn) {
	proxy := Start(t, addr)
	return func(c net.Conn) {
		to, err := net.Dial("tcp", proxy.Addr())
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _, _ = c.(*net.TCPConn).ReadFrom(to); _ = c.Close() }()
		go func() { _, _ = to.(*net.TCPConn).ReadFrom(c); _ = to.Close() }()
	}
}
