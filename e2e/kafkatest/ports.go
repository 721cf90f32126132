package kafkatest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// FreePort is a TCP port on 127.0.0.1 that nobody listens on and that no
// outgoing connection gets by chance, so that a program can leave it and come
// back to it.
func FreePort(t testing.TB) int {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// freePorts finds n ports below the range that the system takes local ports
// from: a client that dials a port of that range while nobody listens there
// may be given the very port, reach itself, and keep the listener out.
func freePorts(n int) ([]int, error) {
	const lowest, tries = 15000, 1000
	limit := firstLocalPort()
	ports := make([]int, 0, n)
	for try := 0; len(ports) < n; try++ {
		port := 0 // any: the system leaves no range of our own
		if limit > lowest+tries {
			port = lowest + rand.IntN(limit-lowest)
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			defer l.Close() // at the end, or it might be found twice
			ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		} else if try > tries {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	return ports, nil
}

// firstLocalPort is where the range of local ports begins, Linux's default
// where it does not say.
func firstLocalPort() int {
	first := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(text), &first) // the default stays if it is unreadable
	}
	return first
}
