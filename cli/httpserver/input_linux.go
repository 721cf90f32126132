package httpserver

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasInput reports whether more has arrived than read returns, the number of bytes that Read has
// recorded. It asks the kernel how much has arrived at all: what Read has taken, and not recorded yet,
// is in no buffer. On a busy host that may last.
func hasInput(c net.Conn, read func() int64) bool {
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
		recorded := read()
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		arrived = err == nil && int64(info.Bytes_received) > recorded
	})
	return arrived
}
