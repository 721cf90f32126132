package limits

import (
	"errors"
	"net"
	"regexp"
	"time"
)

// StableError returns the error of a connection without the local address, whose port
// differs from one connection to the next. The log and the status compare the texts of
// errors, so the same cause must have the same text. remote is the address of the other
// end; nil if there is no connection.
func StableError(err error, remote net.Addr) error {
	of, ok := err.(*net.OpError)
	if !ok {
		return err
	}
	stable := *of
	stable.Source = nil
	if remote != nil {
		stable.Addr = remote // package net sets the local one if a deadline cannot be set
	}
	var lookup *net.DNSError
	if errors.As(of.Err, &lookup) && of.Err == error(lookup) {
		dns := *lookup
		dns.Err = StableText(dns.Err)
		stable.Err = &dns
	}
	return &stable
}

// StableText returns the text of an error without local addresses, such as that of a
// failed request to a name server: "read udp 10.0.0.7:43210->10.0.0.2:53: i/o timeout".
func StableText(text string) string { return localAddress.ReplaceAllString(text, "") }

// WithoutPorts returns err with the text of [StableText], for errors of libraries that do
// not expose the connection.
func WithoutPorts(err error) error { return &stableTextError{StableText(err.Error()), err} }

type stableTextError struct {
	text string
	err  error
}

func (e *stableTextError) Error() string { return e.text }
func (e *stableTextError) Unwrap() error { return e.err }

var localAddress = regexp.MustCompile(`\S+:\d+->`)

// A stableConn returns stable errors.
type stableConn struct {
	net.Conn
}

func (c stableConn) stable(err error) error {
	if err == nil {
		return nil
	}
	return StableError(err, c.RemoteAddr())
}

// Read implements [net.Conn].
func (c stableConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.stable(err)
}

// Write implements [net.Conn].
func (c stableConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.stable(err)
}

// Close implements [net.Conn].
func (c stableConn) Close() error { return c.stable(c.Conn.Close()) }

// SetDeadline implements [net.Conn].
func (c stableConn) SetDeadline(t time.Time) error { return c.stable(c.Conn.SetDeadline(t)) }

// SetReadDeadline implements [net.Conn].
func (c stableConn) SetReadDeadline(t time.Time) error { return c.stable(c.Conn.SetReadDeadline(t)) }

// SetWriteDeadline implements [net.Conn].
func (c stableConn) SetWriteDeadline(t time.Time) error {
	return c.stable(c.Conn.SetWriteDeadline(t))
}
