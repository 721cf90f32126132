package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A coordinatorConn is the connection to a coordinator that sarama uses, above TLS. It parses the
// frames of the Kafka protocol, for two purposes.
//
// A JoinGroup request is answered when the slowest member has rejoined, which may take
// minutes. sarama has one read timeout for all requests; the deadline is removed while a
// join is the request to be answered next.
//
// To save memory, the response to an ApiVersions request is shortened to the requests of a group:
// sarama keeps an entry for each kind of request, 2.5 KiB for each connection.
//
// All that sarama writes must be frames, which excludes SaslHandshake v0 and GSSAPI. As
// with any connection, one goroutine at a time may read, and one may write.
type coordinatorConn struct {
	net.Conn
	wire *TrackedConn

	out []byte // a frame that is not complete yet; the writer's

	head [4]byte // of the response on the wire, as far as it was read; the reader's
	got  int     // bytes of head
	left int     // bytes of the response after head that were not read yet
	buf  []byte
	in   []byte // read from the wire, but not by sarama yet

	mu      sync.Mutex
	pending []pendingRequest // in the order of their responses
}

// A pendingRequest has no response yet, or one that was not read to its end.
type pendingRequest struct {
	key     kmsg.Key
	version int16
	read    bool // its response is in coordinatorConn.in; of ApiVersions requests only
}

// waits reports whether other members of the group may delay the response.
func (r pendingRequest) waits() bool { return r.key == kmsg.JoinGroup || r.key == kmsg.SyncGroup }

// maxGroupRequest is larger than any request to a coordinator. A greater length shows that
// the data is not a frame.
const maxGroupRequest = 100 << 20

// smallResponse is larger than the response to a heartbeat.
const smallResponse = 64

// Write implements net.Conn. It sends whole frames, even if the caller writes them in
// parts.
func (c *coordinatorConn) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	for len(c.out) >= 4 {
		n := int64(binary.BigEndian.Uint32(c.out))
		if n < 8 || n > maxGroupRequest {
			return 0, fmt.Errorf("send request to coordinator: invalid frame of %d bytes", n)
		}
		if int64(len(c.out)) < 4+n {
			break
		}
		if err := c.send(c.out[:4+n]); err != nil {
			return 0, err
		}
		c.out = c.out[4+n:]
	}
	if len(c.out) == 0 {
		c.out = nil // requests to a coordinator are rare, and some are large
	}
	return len(p), nil
}

// send sends a frame to the broker.
func (c *coordinatorConn) send(frame []byte) error {
	r := pendingRequest{key: kmsg.Key(binary.BigEndian.Uint16(frame[4:])), version: int16(binary.BigEndian.Uint16(frame[6:]))}
	if r.key == kmsg.JoinGroup {
		c.wire.memberID.Store(memberOf(frame[4:]))
		c.wire.dialer.joins.Add(1)
	}
	c.mu.Lock()
	c.pending = append(c.pending, r)
	if r.waits() {
		c.wire.joinSent.Store(time.Now().UnixNano())
	}
	c.mu.Unlock()
	_, err := c.Conn.Write(frame)
	return err
}

// Read implements net.Conn. sarama reads only after it has sent a request.
func (c *coordinatorConn) Read(p []byte) (int, error) {
	r, ok := c.next()
	switch {
	case len(p) == 0:
		return 0, nil
	case !ok:
		return 0, errors.New("read response of coordinator: no request was sent")
	case r.key == kmsg.ApiVersions && !r.read:
		if err := c.readVersions(r.version); err != nil {
			return 0, err
		}
	}
	n, err := c.readWire(p)
	if c.got == len(c.head) && c.left == 0 {
		c.got = 0
		c.pop()
	}
	return n, err
}

// readWire reads a part of one response, up to its end at most.
func (c *coordinatorConn) readWire(p []byte) (n int, err error) {
	if c.got == len(c.head) {
		p = p[:min(len(p), c.left)]
		if len(c.in) > 0 {
			n = c.take(p)
		} else {
			n, err = c.Conn.Read(p)
		}
		c.left -= n
		return n, err
	}
	if len(c.in) == 0 {
		// Read more than the head: a heartbeat, with its response, takes one read.
		if c.buf == nil {
			c.buf = make([]byte, smallResponse)
		}
		if n, err = c.Conn.Read(c.buf); n == 0 {
			return 0, err
		}
		c.in = c.buf[:n]
	}
	n = c.take(p[:min(len(p), len(c.head)-c.got)])
	c.got += copy(c.head[c.got:], p[:n])
	if c.got == len(c.head) {
		c.left = max(0, int(int32(binary.BigEndian.Uint32(c.head[:]))))
	}
	return n, nil
}

// take moves bytes of in to p.
func (c *coordinatorConn) take(p []byte) (n int) {
	n = copy(p, c.in)
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.in = nil
	}
	return n
}

// next returns the request whose response is read now.
func (c *coordinatorConn) next() (r pendingRequest, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return r, false
	}
	return c.pending[0], true
}

// pop records that a response was read to its end.
func (c *coordinatorConn) pop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[0].waits() {
		c.wire.joinSent.Store(0)
	}
	if c.pending = c.pending[1:]; len(c.pending) == 0 {
		c.pending = nil
	}
}

// SetReadDeadline implements net.Conn. sarama calls it before it reads a response.
func (c *coordinatorConn) SetReadDeadline(t time.Time) error {
	if r, ok := c.next(); ok && r.waits() {
		t = time.Time{} // group.JoinWatch closes the connection if the broker does not respond
	}
	return c.Conn.SetReadDeadline(t)
}
