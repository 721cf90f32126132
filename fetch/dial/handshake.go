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

// ResponseTimeout is how long a broker may send nothing of an answer, beyond MaxWait.
// Behind it the broker counts as a black hole.
const ResponseTimeout = 10 * time.Second

// mostFirst is more than a broker's first answer has, which says what it speaks.
const mostFirst = 1 << 20

// handshake makes a connection to addr ready for Kafka: by TLS if conf is not nil,
// and so that it ends if nothing comes over it within ten seconds, or something that
// no broker sends first. The errors name who. way records the result. handshake closes wire
// if it fails.
func handshake(ctx context.Context, wire net.Conn, addr string, conf *tls.Config, who string, way *way) (net.Conn, error) {
	c := &openingConn{Conn: wire, who: who, way: way}
	if conf != nil {
		conf = conf.Clone()
		if conf.ServerName == "" {
			conf.ServerName, _, _ = net.SplitHostPort(addr)
		}
		encrypted := tls.Client(wire, conf)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			err = way.fail(&HandshakeError{err})
			_ = wire.Close()
			return nil, err
		}
		c.Conn, c.encrypted = encrypted, true
	}
	c.by = time.Now().Add(ResponseTimeout)
	return c, nil
}

// A HandshakeError says that there was a broker, or something else, and no TLS.
type HandshakeError struct{ Err error }

func (e *HandshakeError) Error() string { return "tls handshake: " + e.Err.Error() }

// Unwrap returns Err.
func (e *HandshakeError) Unwrap() error { return e.Err }

// An openingConn is a connection over which the first answer has not come yet.
// sarama believes whatever comes: it asks several times for what a black hole
// speaks, half a minute each, and takes it for an old broker then; and it makes room
// for as many bytes as the first four say, which are gigabytes if another kind of
// server sends a text.
type openingConn struct {
	net.Conn
	who       string
	way       *way
	encrypted bool
	by        time.Time // when the first answer is to be there
	heard     atomic.Bool
	head      [4]byte // the length of the first answer, as far as it has come
	got       int     // bytes of head
}

func (c *openingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.got == len(c.head) {
		c.way.hear(n)
		return n, c.way.evicted(err)
	}
	switch {
	case n > 0:
		c.heard.Store(true)
	case c.heard.Load():
	case retry.TimedOut(err):
		return 0, c.way.fail(StrangerError(fmt.Sprintf("%s accepts connections and has not answered within %s", c.who, ResponseTimeout)))
	case err != nil:
		return 0, c.way.fail(err)
	}
	begun := c.got
	c.got += copy(c.head[begun:], p[:n])
	if c.got < len(c.head) {
		return n, err
	}
	if length := binary.BigEndian.Uint32(c.head[:]); length >= 4 && length <= mostFirst {
		c.way.answer()
		return n, err
	}
	return 0, c.way.fail(c.stranger(append(c.head[:begun:begun], p[:n]...)))
}

// Write implements [net.Conn]. A broker that closes the connection at once may have done
// so before the first request.
func (c *openingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && !c.heard.Load() {
		return n, c.way.fail(err)
	}
	return n, c.way.evicted(err)
}

// stranger says what came instead of an answer.
func (c *openingConn) stranger(begins []byte) error {
	if !c.encrypted && bytes.HasPrefix(begins, []byte{tlsAlert, 3}) {
		return StrangerError(c.who + " speaks TLS: add tls")
	}
	return StrangerError(fmt.Sprintf("%s does not speak Kafka: what came begins with %q", c.who, begins[:min(len(begins), 24)]))
}

// tlsAlert is the type of record with which a server refuses what is no TLS. Its
// version follows, 3.x (RFC 8446, 5.1).
const tlsAlert = 21

func (c *openingConn) SetReadDeadline(t time.Time) error {
	if !c.heard.Load() && t.After(c.by) {
		t = c.by
	}
	return c.Conn.SetReadDeadline(t)
}

// A StrangerError says that there is no broker at the other end, or none that
// answers.
type StrangerError string

func (e StrangerError) Error() string { return string(e) }

// Unwrap returns an error of a kind that has sarama hang up: on a timeout it does
// not, and goes on to send requests.
func (e StrangerError) Unwrap() error { return io.ErrClosedPipe }
