package limits

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStableErrorsHaveTheSameText: errors of two connections to one server have the same text,
// which names the server, and keep their type and cause.
func TestStableErrorsHaveTheSameText(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := Descriptors{Limit: 256, Brokers: 2}.brokers()
	connect := func() (client net.Conn, server *net.TCPConn) {
		client, err := b.Dial(t.Context(), new(net.Dialer), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, accepted.(*net.TCPConn)
	}
	for name, c := range map[string]struct {
		fail func(client net.Conn, server *net.TCPConn) error
		is   error
	}{
		"reset": {func(client net.Conn, server *net.TCPConn) error {
			_ = server.SetLinger(0)
			_ = server.Close()
			_, err := io.ReadAll(client)
			return err
		}, syscall.ECONNRESET},
		"timeout": {func(client net.Conn, _ *net.TCPConn) error {
			_ = client.SetReadDeadline(time.Unix(1, 0))
			_, err := client.Read(make([]byte, 1))
			return err
		}, os.ErrDeadlineExceeded},
		"write": {func(client net.Conn, _ *net.TCPConn) error {
			_ = client.SetWriteDeadline(time.Unix(1, 0))
			_, err := client.Write(make([]byte, 1))
			return err
		}, os.ErrDeadlineExceeded},
		"closed": {func(client net.Conn, _ *net.TCPConn) error {
			_ = client.Close()
			return client.Close()
		}, net.ErrClosed},
		"deadline": {func(client net.Conn, _ *net.TCPConn) error {
			_ = client.Close()
			return client.SetDeadline(time.Now())
		}, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			var texts []string
			for range 2 {
				client, server := connect()
				err := c.fail(client, server)
				var of *net.OpError
				if !errors.As(err, &of) || !errors.Is(err, c.is) {
					t.Errorf("%#v is not a *net.OpError for %v", err, c.is)
				}
				texts = append(texts, err.Error())
				_, _ = client.Close(), server.Close()
			}
			if texts[0] != texts[1] || !strings.Contains(texts[0], l.Addr().String()) {
				t.Errorf("the texts are %q", texts)
			}
		})
	}
}

// TestStableLookupErrorNamesTheServerAlone: the error of a name server has the address of the server alone.
func TestStableLookupErrorNamesTheServerAlone(t *testing.T) {
	failed := &net.DNSError{Err: "read udp 10.0.0.7:43210->10.0.0.2:53: i/o timeout", Name: "kafka", IsTimeout: true}
	err := StableError(&net.OpError{Op: "dial", Net: "tcp", Err: failed}, nil)
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsTimeout || err.Error() != "dial tcp: lookup kafka: read udp 10.0.0.2:53: i/o timeout" {
		t.Errorf("%v", err)
	}
	if !strings.Contains(failed.Err, "43210") {
		t.Error("the error itself was changed")
	}
}
