package httpserver

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// CheckAddress returns an error that says what to write instead if an address is not a host
// and a port. The host may be empty, for all addresses of this machine.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.Contains(address, "/") {
		return fmt.Errorf("%q: use %s", address, usableAddress(address))
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
		return fmt.Errorf("%q: the port must be from 0 to 65535", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q: port %q is not a number", address, port)
	}
	if _, err := net.ResolveTCPAddr("tcp", address); err != nil {
		return fmt.Errorf("%q: host %q not found; use an address of this machine, or :%s for all of them", address, host, port)
	}
	return nil
}

// usableAddress says how to write an address that has no host or no port.
func usableAddress(address string) string {
	_, rest, isURL := strings.Cut(address, "://")
	rest, _, _ = strings.Cut(rest, "/")
	_, err := strconv.Atoi(address)
	switch {
	case isURL && net.ParseIP(rest) == nil && strings.Contains(rest, ":"):
		return "an address without a scheme, such as " + rest
	case err == nil && address != "":
		return "an address with a port, such as 127.0.0.1:" + address + " or :" + address
	case strings.Count(address, ":") > 1:
		return "brackets around the host, such as [::1]:8080"
	case address != "" && !isURL:
		return "an address with a port, such as " + strings.TrimSuffix(address, ":") + ":8080"
	}
	return "an address with a port, such as 127.0.0.1:8080 or :8080"
}

// Listen listens on an address that [CheckAddress] accepts. The error says what to do.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	cause := err
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		cause = oe.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		cause = errno
	}
	step := "use --listen with another address"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		step = "use --listen with another port, or stop the program that uses this one"
	case errors.Is(err, syscall.EACCES):
		step = "use --listen with a port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		_, port, _ := net.SplitHostPort(address)
		step = "use --listen with an address of this machine, or with :" + port + " for all of them"
	}
	return nil, fmt.Errorf("listen on %s: %w; %s", address, cause, step)
}
