//go:build !linux

package httpserver

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasInput reports whether something has arrived that was not read.
func hasInput(c net.Conn, _ func() int64) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	arrived := false
	_ = raw.Control(func(fd uintptr) { // an error means that the connection is closed
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		arrived = err == nil && n > 0
	})
	return arrived
}
