package bench

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The message of the kernel's socket monitor, of which x/sys has no types: see sock_diag(7).
const (
	sockDiagByFamily = 20
	inetDiagInfo     = 2  // attribute with a tcp_info
	inetDiagCookie   = 44 // in a response
	inetDiagMsgSize  = 72 // of a response, before its attributes
)

// received returns how many bytes each IPv4 socket has received that is connected to a port
// of this machine, by the socket's cookie, which the kernel never uses again.
func received(port uint16) (map[uint64]int64, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's socket monitor: %w", err)
	}
	defer unix.Close(fd)
	req := make([]byte, unix.SizeofNlMsghdr+8+48)
	binary.NativeEndian.PutUint32(req, uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.SizeofNlMsghdr:]
	body[0], body[1], body[2] = unix.AF_INET, unix.IPPROTO_TCP, 1<<(inetDiagInfo-1)
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // in every state
	binary.BigEndian.PutUint16(body[10:], port)         // of the other side
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask the kernel's socket monitor: %w", err)
	}
	sockets := make(map[uint64]int64)
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, fmt.Errorf("read from the kernel's socket monitor: %w", err)
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_DONE:
				return sockets, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("ask the kernel's socket monitor: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(rest[unix.SizeofNlMsghdr:]))))
			}
			message := rest[unix.SizeofNlMsghdr:size]
			sockets[binary.NativeEndian.Uint64(message[inetDiagCookie:])] = bytesReceived(message[inetDiagMsgSize:])
			rest = rest[min(len(rest), (size+3)&^3):]
		}
	}
}

// bytesReceived returns tcpi_bytes_received from the attributes of a socket.
func bytesReceived(attributes []byte) int64 {
	for len(attributes) >= 4 {
		size := int(binary.NativeEndian.Uint16(attributes))
		if binary.NativeEndian.Uint16(attributes[2:]) == inetDiagInfo {
			return int64(binary.NativeEndian.Uint64(attributes[4+unsafe.Offsetof(unix.TCPInfo{}.Bytes_received):]))
		}
		attributes = attributes[min(len(attributes), (size+3)&^3):]
	}
	return 0 // the socket has just been closed
}
