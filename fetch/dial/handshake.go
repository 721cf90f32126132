package dial

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"kcagent/retry"
)

// ResponseTimeout is how long a broker may send nothing of a response, in addition to the time for
// which a fetch may be held back. After that the broker counts as unresponsive.
const ResponseTimeout = 10 * time.Second

// maxFirstResponse is larger than the first response of any broker, which lists the versions of
// its requests.
const maxFirstResponse = 1 << 20

// handshake makes a connection to addr ready for Kafka. It starts TLS if conf is not nil. The
// connection that it returns fails if no response arrives within ResponseTimeout, or one that no
// broker sends. Errors name the other end as peer. If handshake fails, it closes raw.
func handshake(ctx context.Context, raw net.Conn, addr string, conf *tls.Config, peer string, a *attempt) (net.Conn, error) {
	c := &openingConn{Conn: raw, peer: peer, attempt: a}
	if conf != nil {
		conf = conf.Clone()
		if conf.ServerName == "" {
			conf.ServerName, _, _ = net.SplitHostPort(addr)
		}
		encrypted := tls.Client(raw, conf)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			err = a.fail(&HandshakeError{err})
			_ = raw.Close()
			return nil, err
		}
		c.Conn, c.encrypted = encrypted, true
	}
	c.deadline = time.Now().Add(ResponseTimeout)
	return c, nil
}

// A HandshakeError reports that a connection was accepted, and that the TLS handshake failed.
type HandshakeError struct{ Err error }

func (e *HandshakeError) Error() string { return "tls handshake: " + e.Err.Error() }

// Unwrap returns Err.
func (e *HandshakeError) Unwrap() error { return e.Err }

// An openingConn checks the first response on a connection, because sarama does not validate it.
// sarama would ask an unresponsive server for its versions several times, half a minute each, and
// then take it for an old broker. It would also allocate as many bytes as the first four bytes of
// the response say, which are gigabytes if another kind of server sends a text.
type openingConn struct {
	net.Conn
	peer      string
	attempt   *attempt
	encrypted bool
	deadline  time.Time // of the first response
	received  atomic.Bool
	head      [4]byte // the length of the first response
	got       int     // bytes of head that have arrived
}

// Read implements [net.Conn].
func (c *openingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.got == len(c.head) {
		c.attempt.recordBytes(n)
		return n, c.attempt.evictionOr(err)
	}
	switch {
	case n > 0:
		c.received.Store(true)
	case c.received.Load():
	case retry.TimedOut(err):
		return 0, c.attempt.fail(NotKafkaError(fmt.Sprintf("%s accepts connections and has not answered within %s", c.peer, ResponseTimeout)))
	case err != nil:
		return 0, c.attempt.fail(err)
	}
	begun := c.got
	c.got += copy(c.head[begun:], p[:n])
	if c.got < len(c.head) {
		return n, err
	}
	if length := binary.BigEndian.Uint32(c.head[:]); length >= 4 && length <= maxFirstResponse {
		c.attempt.succeed()
		return n, err
	}
	return 0, c.attempt.fail(c.notKafka(append(c.head[:begun:begun], p[:n]...)))
}

// Write implements [net.Conn]. A broker that closes the connection at once may have done
// so before the first request.
func (c *openingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && !c.received.Load() {
		return n, c.attempt.fail(err)
	}
	return n, c.attempt.evictionOr(err)
}

// notKafka returns the error for a response that is not Kafka's. start is its first bytes.
func (c *openingConn) notKafka(start []byte) error {
	if !c.encrypted && bytes.HasPrefix(start, []byte{tlsAlert, 3}) {
		return NotKafkaError(c.peer + " speaks TLS: add tls")
	}
	return NotKafkaError(fmt.Sprintf("%s does not speak Kafka: its response begins with %q", c.peer, start[:min(len(start), 24)]))
}

// tlsAlert is the type of the TLS record with which a server rejects other protocols. The version
// 3.x follows it (RFC 8446, section 5.1).
const tlsAlert = 21

// SetReadDeadline implements [net.Conn]. It does not extend the deadline of the first response.
func (c *openingConn) SetReadDeadline(t time.Time) error {
	if !c.received.Load() && t.After(c.deadline) {
		t = c.deadline
	}
	return c.Conn.SetReadDeadline(t)
}

// A NotKafkaError reports that there is no broker at the other end, or an unresponsive one.
type NotKafkaError string

func (e NotKafkaError) Error() string { return string(e) }

// Unwrap returns an error of a kind for which sarama closes the connection. After a timeout, it
// would send the next request.
func (e NotKafkaError) Unwrap() error { return io.ErrClosedPipe }
