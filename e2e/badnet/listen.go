package badnet

import (
	"net"
	"testing"
)

// Listen starts a server that calls serve with each connection, one after the other, and
// keeps the connection open unless serve closes it: a serve that does nothing makes an
// unresponsive server. The end of the test closes the server and its connections.
func Listen(t testing.TB, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l, serve)
	return l.Addr().String()
}

// accept calls serve with each connection of a listener until the end of the test, which
// closes the listener and the connections.
func accept(t testing.TB, l net.Listener, serve func(net.Conn)) {
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			serve(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	})
}
