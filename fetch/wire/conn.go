// Package wire sends requests to one broker over one connection and reads the responses.
//
// sarama opens the connection, negotiates versions and authenticates. Requests that sarama
// would answer with an object for each record, or one after the other, are sent between two of
// its own: fetches, lookups of coordinators and leader epochs, and those of a [Link].
//
// Every error is either an error of the connection ([IsConnectionError]) or a
// [dial.ResponseError]. Only after an error of the connection is it useful to try another
// connection or another broker.
//
// Start reading at [Opener.Open] and [Conn.Fetch].
package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/dial"
)

// A Conn is one connection to one broker. One goroutine at a time uses it. sarama cannot cancel a
// request, and its Close waits for the one in flight, so a Conn keeps the socket and closes that
// first.
type Conn struct {
	broker   *sarama.Broker
	conf     *sarama.Config
	pin      *dial.Pin
	versions map[kmsg.Key]sarama.ApiVersionsResponseKey // of the broker; nil before prepare
	lastID   int32                                      // correlation id of the last request that is not sarama's
	buf      []byte                                     // of the last such request
	timeout  time.Duration                              // how long the broker may send nothing of a response
	progress *atomic.Int64                              // see SetProgress

	mu     sync.Mutex
	socket *dial.Conn // the connection, with TLS if that is used
	raw    net.Conn   // the connection below TLS
	closed bool
	unbind func() bool // stops closing the socket at the end of a context
}

// bindTo makes the connection end with ctx instead of the context that it was opened with. It
// returns false if that one is done already.
func (c *Conn) bindTo(ctx context.Context) bool {
	if !c.unbind() {
		return false
	}
	c.unbind = context.AfterFunc(ctx, c.closeSocket)
	return true
}

// closeSocket closes the socket, also during a request.
func (c *Conn) closeSocket() {
	c.mu.Lock()
	c.closed = true
	raw := c.raw
	c.mu.Unlock()
	if raw != nil {
		_ = raw.Close() // closing TLS would first send an alert to a broker that may be unresponsive
	}
}

// Close closes the connection and ends sarama's goroutines for it.
func (c *Conn) Close() {
	c.unbind()
	c.closeSocket()
	_ = c.broker.Close() // it reports only that the socket is closed
}

// IsConnectionError reports whether err is an error of the connection, as opposed to one of a
// response.
func IsConnectionError(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || errors.Is(err, sarama.ErrNotConnected) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EPIPE)
}

// LoginRejected reports whether the broker rejected the credentials. Other brokers of the cluster
// would reject them as well.
func LoginRejected(err error) bool { return errors.Is(err, sarama.ErrSASLAuthenticationFailed) }

// Addr returns the address of the broker, host:port.
func (c *Conn) Addr() string { return c.broker.Addr() }

// SetProgress makes the connection record in at when a part of a long response arrives, in Unix
// nanoseconds and at most once a second.
func (c *Conn) SetProgress(at *atomic.Int64) { c.progress = at }

// NewOffsetRequest returns a request for [Conn.Offsets].
func (c *Conn) NewOffsetRequest(iso sarama.IsolationLevel) *sarama.OffsetRequest {
	req := sarama.NewOffsetRequest(c.conf.Version)
	req.IsolationLevel = iso
	return req
}

// Offsets asks the broker for offsets of partitions that it leads. The request comes from
// [Conn.NewOffsetRequest].
func (c *Conn) Offsets(req *sarama.OffsetRequest) (*sarama.OffsetResponse, error) {
	return c.broker.GetAvailableOffsets(req)
}

// Metadata asks the broker for the metadata of topics; nil means all topics. It fails if the broker
// belongs to another cluster.
func (c *Conn) Metadata(topics []string) (*sarama.MetadataResponse, error) {
	req := sarama.NewMetadataRequest(c.conf.Version, topics)
	req.AllowAutoTopicCreation = false // a typo must not create a topic
	resp, err := c.broker.GetMetadata(req)
	if err == nil {
		err = c.pin.Check(c.broker.Addr(), resp.ClusterID)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.socket.SetCluster(resp.ClusterID)
	return resp, nil
}
