package bench

import (
	"io"
	"net"
	"runtime"
	"testing"
)

// TestReceivedCountsConnectionsToThePort: what clients of a port have received counts, also
// before they read it; what the server receives does not.
func TestReceivedCountsConnectionsToThePort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reports received bytes")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	for i := range 2 {
		client, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if _, err := client.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(make([]byte, 300)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 100)); err != nil { // all 300 have arrived
			t.Fatal(err)
		}
		sockets, err := received(port)
		if err != nil || len(sockets) != i+1 {
			t.Fatalf("%d connections are %v, %v", i+1, sockets, err)
		}
		for _, n := range sockets {
			if n != 300 {
				t.Errorf("a connection received %d bytes", n)
			}
		}
	}
}
