package dial

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A Pin holds the id of the cluster that a list of broker addresses leads to. Brokers that report
// their cluster set it, until the first subscription makes it final. From then on, no connection to
// another cluster is used. Otherwise, behind the same address (DNS, a load balancer, a rebuilt
// machine), a cluster with topics and groups of the same names could answer, and its records would
// enter the sink. Its methods are safe for concurrent use.
//
// It is not final before the first subscription, because the ledgers of the sinks decide whether
// it is the right cluster. If a wrong cluster answers first, no partition resumes, and the right
// one is used as soon as it answers.
type Pin struct {
	mu    sync.Mutex
	id    string
	final bool
}

// NewPin returns a pin to the cluster with the id, which is final. If id is "", brokers set it.
func NewPin(id string) *Pin { return &Pin{id: id, final: id != ""} }

// Finalize makes the pin final: its id, or the next one that a broker reports.
func (p *Pin) Finalize() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.final = true
}

// ID returns the id of the cluster, "" if it is unknown.
func (p *Pin) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

// redpandaStarting is what Redpanda reports before its cluster has an id.
const redpandaStarting = "redpanda.initializing"

// Check compares the id that the broker at addr reported with that of the pin, or sets that of
// the pin. Its error is a [*ForeignClusterError]. Brokers that report none, like those before Kafka
// 0.10.1, pass.
func (p *Pin) Check(addr string, id *string) error {
	reported := ClusterID(id)
	if reported == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.id == "" || !p.final:
		p.id = reported
	case p.id != reported:
		return &ForeignClusterError{Addr: addr, Cluster: reported, Pinned: p.id}
	}
	return nil
}

// ClusterID returns the cluster id of a metadata response, "" if it has none.
func ClusterID(id *string) string {
	if id == nil || *id == redpandaStarting {
		return ""
	}
	return *id
}

// A ForeignClusterError reports that a broker belongs to another cluster than the pinned one.
type ForeignClusterError struct{ Addr, Cluster, Pinned string }

func (e *ForeignClusterError) Error() string {
	return fmt.Sprintf("broker %s belongs to cluster %s, but this consumer reads from cluster %s: restore the address, or edit brokers to move to another cluster",
		e.Addr, e.Cluster, e.Pinned)
}

// Unwrap returns an error of a kind for which sarama closes the connection, and for which the next
// address is tried.
func (e *ForeignClusterError) Unwrap() error { return io.ErrClosedPipe }

// guard returns a connection that is checked against the pin.
func (p *Pin) guard(conn net.Conn, a *attempt) *Conn {
	return &Conn{Conn: conn, pin: p, attempt: a}
}

// A Conn asks the broker for its cluster before the first request other than those that open a
// connection. Fetches, commits and joins do not name a cluster, so a broker of another cluster
// would answer them. Write is called by one goroutine at a time, with one or several whole
// requests, as sarama does.
type Conn struct {
	net.Conn
	pin     *Pin
	attempt *attempt
	cluster string // as the broker reported it; "" if it did not
	checked bool
	err     error // of the check
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.checkPin(); err != nil {
		return 0, err
	}
	if !opensConnection(p) {
		if err := c.VerifyCluster(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// checkPin returns an error once the pin has moved to another cluster than that of the connection.
// The other end still answers, and its topics, groups and offsets would be mixed with those of the
// right cluster.
func (c *Conn) checkPin() error {
	pinned := c.pin.ID()
	if c.cluster == "" || c.cluster == pinned {
		return nil
	}
	_ = c.Close()
	return &ForeignClusterError{Addr: c.attempt.broker, Cluster: c.cluster, Pinned: pinned}
}

// VerifyCluster checks the cluster of the broker, once for the connection.
func (c *Conn) VerifyCluster() error {
	if !c.checked {
		c.checked = true
		if c.err = c.askCluster(); c.err != nil {
			_ = c.Close()
		}
	}
	return c.err
}

// SetCluster records the cluster id of a metadata response that the caller has read from the
// connection.
func (c *Conn) SetCluster(id *string) { c.cluster = ClusterID(id) }

// opensConnection reports whether a request may be sent to any cluster: those that open a
// connection, and Metadata, whose response has the cluster id.
func opensConnection(request []byte) bool {
	if len(request) < 6 {
		return false
	}
	switch kmsg.Key(binary.BigEndian.Uint16(request[4:])) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.Metadata:
		return true
	}
	return false
}

// metadataVersion is a version of Metadata that reports the cluster and that all brokers since
// Kafka 0.11 support.
const metadataVersion = 4

// askCluster asks which cluster the broker belongs to. No other response is outstanding at that
// time, so the next one answers this request.
func (c *Conn) askCluster() error {
	const correlation = 1
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = metadataVersion, []kmsg.MetadataRequestTopic{} // no topics; nil would mean all
	out := kmsg.NewRequestFormatter(kmsg.FormatterClientID("kcagent")).AppendRequest(nil, req, correlation)
	_ = c.Conn.SetReadDeadline(time.Now().Add(ResponseTimeout))
	if _, err := c.Conn.Write(out); err != nil {
		return err
	}
	var length [4]byte
	if _, err := io.ReadFull(c.Conn, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || n > uint32(sarama.MaxResponseSize) {
		return ResponseError{Err: fmt.Errorf("read metadata response: invalid length %d", n)}
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.Conn, b); err != nil {
		return err
	}
	resp := &kmsg.MetadataResponse{Version: metadataVersion}
	body, err := ResponseBody(b, correlation, false)
	if err == nil {
		err = resp.ReadFrom(body)
	}
	if err != nil {
		return ResponseError{Err: fmt.Errorf("read metadata response: %w", err)}
	}
	if err := c.pin.Check(c.attempt.broker, resp.ClusterID); err != nil {
		c.attempt.addresses.record(c.attempt.at, false) // another address of the name may be right
		return err
	}
	c.cluster = ClusterID(resp.ClusterID)
	return nil
}
