package kafkatest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// FreePort returns a TCP port of 127.0.0.1 on which no program listens and which the
// system does not assign to outgoing connections. A program can therefore close the port
// and open it again.
func FreePort(t testing.TB) int {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// freePorts finds n ports below the range from which the system assigns local ports. A
// client that dials a port of that range while no program listens there may be assigned
// the same port, connect to itself, and block the listener.
func freePorts(n int) ([]int, error) {
	const lowest, tries = 15000, 1000
	limit := firstLocalPort()
	ports := make([]int, 0, n)
	for try := 0; len(ports) < n; try++ {
		port := 0 // any: there is no range below the local ports
		if limit > lowest+tries {
			port = lowest + rand.IntN(limit-lowest)
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			defer l.Close() // at the end, so that no port is found twice
			ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		} else if try > tries {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	return ports, nil
}

// firstLocalPort returns the start of the range of local ports, or the default of Linux if
// the system does not tell it.
func firstLocalPort() int {
	first := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(text), &first) // the default stays if it is unreadable
	}
	return first
}
