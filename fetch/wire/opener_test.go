package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/e2e/badnet"
	"kcagent/fetch/dial"
)

// newOpener returns an opener that uses TLS if secure, and resolves kafka.test to ips.
func newOpener(secure bool, ips ...string) *Opener {
	lookup := func(_ context.Context, name string) (all []netip.Addr, _ error) {
		if name != "kafka.test" {
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		}
		for _, ip := range ips {
			all = append(all, netip.MustParseAddr(ip))
		}
		return all, nil
	}
	return NewOpener(dial.NewDialer(dial.NewPin(""), lookup), func() (*sarama.Config, error) {
		c := sarama.NewConfig()
		c.Version = sarama.MaxVersion
		if secure {
			c.Net.TLS.Enable, c.Net.TLS.Config = true, &tls.Config{InsecureSkipVerify: true}
		}
		return c, nil
	}, nil)
}

// reachError connects to addr, by TLS if secure, and returns the error of Reach.
func reachError(t *testing.T, addr string, secure bool) string {
	t.Helper()
	err := newOpener(secure).Reach(t.Context(), addr)
	if err == nil {
		t.Fatal("the broker counts as reachable")
	}
	return err.Error()
}

// TestOtherProtocolIsReported: the error has the response of another kind of server. Its first bytes are
// not used as the length of a response, for which there would not be enough memory.
func TestOtherProtocolIsReported(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n\r\n": "it does not speak Kafka",
		"SSH-2.0-OpenSSH_9.6\r\n":          "it does not speak Kafka",
		"-ERR unknown command\r\n":         "it does not speak Kafka",
		strings.Repeat("\x00", 12):         "it does not speak Kafka",
		"\x15\x03\x03\x00\x02\x02\x50":     "it speaks TLS: add tls",
	} {
		addr := badnet.Listen(t, func(c net.Conn) { _, _ = c.Write([]byte(text)) })
		if err := reachError(t, addr, false); !strings.Contains(err, want) || !strings.Contains(err, addr) {
			t.Errorf("%q is reported as %s", text, err)
		}
	}
	piecemeal := badnet.Listen(t, func(c net.Conn) {
		for _, b := range []byte("HTTP") {
			_, _ = c.Write([]byte{b})
			<-time.After(10 * time.Millisecond)
		}
	})
	if err := reachError(t, piecemeal, false); !strings.Contains(err, `its response begins with "HTTP"`) {
		t.Errorf("a response in pieces is reported as %s", err)
	}
	web := httptest.NewTLSServer(nil) // which has a certificate
	t.Cleanup(web.Close)
	secure := badnet.Listen(t, func(c net.Conn) { _, _ = tls.Server(c, web.TLS).Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	if err := reachError(t, secure, true); !strings.Contains(err, `its response begins with "HTTP/1.1 400`) || strings.Contains(err, "add tls") {
		t.Errorf("a web server is reported as %s", err)
	}
}

// TestUnresponsiveBrokerTimesOut: a server that accepts a connection and never responds is not waited
// for longer than for a response.
func TestUnresponsiveBrokerTimesOut(t *testing.T) {
	t.Parallel()
	began := time.Now()
	err := reachError(t, badnet.Listen(t, func(net.Conn) {}), false)
	if took := time.Since(began); took > 6*dial.ResponseTimeout || !strings.Contains(err, "accepts connections and has not answered within 10s") {
		t.Errorf("after %v: %s", took, err)
	}
}

// TestErrorNamesEveryAddress: if no address of a name responds, the error names all of them.
func TestErrorNamesEveryAddress(t *testing.T) {
	opener := newOpener(false, "127.0.0.3", "::ffff:127.0.0.2", "127.0.0.3")
	gone := badnet.ListenAt(t, map[string]func(net.Conn){"127.0.0.2": nil, "127.0.0.3": nil})
	for addr, want := range map[string][]string{
		"kafka.test:" + gone: {"connect to kafka.test:" + gone + ": dial tcp 127.0.0.", "127.0.0.2:" + gone, "127.0.0.3:" + gone, "refused"},
		"other.test:9092":    {"dial tcp: lookup other.test: no such host"},
		"127.0.0.2:" + gone:  {"dial tcp 127.0.0.2:" + gone},
	} {
		err := opener.Reach(t.Context(), addr)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v lacks %s", addr, err, part)
			}
		}
		if !IsConnectionError(err) {
			t.Errorf("%s: %v is not an error of the connection", addr, err)
		}
	}
	if err := opener.Reach(t.Context(), "no-port"); err == nil || errors.Is(err, sarama.ErrNotConnected) {
		t.Errorf("an address without a port: %v", err)
	}
}
