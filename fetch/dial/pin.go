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

// A Pin holds the id of the cluster that a list of broker addresses leads to. Brokers
// that name their cluster set it, until the first partition is subscribed to. From then on
// no connection to another cluster is used: behind the same address (DNS, a load balancer,
// a rebuilt machine) there may be topics and groups of the same names, and the records of
// the other cluster would enter the file. Its methods are safe for concurrent use.
//
// It is not final before a subscription, because what the sinks hold decides whether it is
// the right cluster: if a wrong one answers first, and no partition resumes for that reason,
// the right one is used as soon as it answers.
type Pin struct {
	mu    sync.Mutex
	id    string
	final bool
}

// NewPin returns a pin to a cluster; "" is set by brokers.
func NewPin(id string) *Pin { return &Pin{id: id, final: id != ""} }

// Finalize makes the pin final: the id that is known, or the next one that a broker names.
func (p *Pin) Finalize() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.final = true
}

// ID returns the id of the cluster; "" if it is not known, or if its brokers do not report
// one.
func (p *Pin) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

// redpandaStarting is what Redpanda names before its cluster has an id.
const redpandaStarting = "redpanda.initializing"

// Check compares the id that the broker at addr named. Brokers that name none are
// used, like those before Kafka 0.10.1.
func (p *Pin) Check(addr string, id *string) error {
	named := ClusterID(id)
	if named == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.id == "" || !p.final:
		p.id = named
	case p.id != named:
		return &ForeignClusterError{Addr: addr, Cluster: named, Pinned: p.id}
	}
	return nil
}

// ClusterID is the cluster id in a metadata response; "" if there is none.
func ClusterID(id *string) string {
	if id == nil || *id == redpandaStarting {
		return ""
	}
	return *id
}

// A ForeignClusterError reports that a broker belongs to another cluster than the pinned
// one.
type ForeignClusterError struct{ Addr, Cluster, Pinned string }

func (e *ForeignClusterError) Error() string {
	return fmt.Sprintf("broker %s belongs to cluster %s, but this consumer reads from cluster %s: restore the address, or edit brokers to move to another cluster",
		e.Addr, e.Cluster, e.Pinned)
}

// Unwrap returns an error of a kind for which sarama closes the connection, like that of
// [StrangerError], and for which the next address is tried.
func (e *ForeignClusterError) Unwrap() error { return io.ErrClosedPipe }

// guard returns conn so that its first request, apart from those that open a
// connection, is sent only after the broker has named the pinned cluster. Fetches,
// commits and joins do not name a cluster themselves: a broker of another one would
// answer them.
func (p *Pin) guard(conn net.Conn, way *way) *Conn {
	return &Conn{Conn: conn, pin: p, way: way}
}

// A Conn asks for the cluster before the first request that matters. Like
// sarama's, its Write is called by one goroutine at a time, with one request or
// several whole ones.
type Conn struct {
	net.Conn
	pin     *Pin
	way     *way
	cluster string // that the broker has named; "" if it has named none
	checked bool
	err     error // of the check
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.stays(); err != nil {
		return 0, err
	}
	if !opens(p) {
		if err := c.VerifyCluster(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// stays returns an error once the pin has moved from the cluster of the connection: the
// other end still answers, and what it says of topics, groups and offsets would be mixed
// with what the right cluster says.
func (c *Conn) stays() error {
	pinned := c.pin.ID()
	if c.cluster == "" || c.cluster == pinned {
		return nil
	}
	_ = c.Close()
	return &ForeignClusterError{Addr: c.way.broker, Cluster: c.cluster, Pinned: pinned}
}

// VerifyCluster checks the cluster once.
func (c *Conn) VerifyCluster() error {
	if !c.checked {
		c.checked = true
		if c.err = c.check(); c.err != nil {
			_ = c.Close()
		}
	}
	return c.err
}

// SetCluster records the cluster that the broker has named in a response to the caller.
func (c *Conn) SetCluster(id *string) { c.cluster = ClusterID(id) }

// opens reports whether a request may be sent to any cluster: those that open a
// connection, and Metadata, whose response names the cluster itself.
func opens(request []byte) bool {
	if len(request) < 6 {
		return false
	}
	switch kmsg.Key(binary.BigEndian.Uint16(request[4:])) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.Metadata:
		return true
	}
	return false
}

// checkVersion is a version of Metadata that names the cluster and that all brokers
// since Kafka 0.11 support.
const checkVersion = 4

// check asks which cluster the broker belongs to. No response is outstanding at that
// time, so the next one is that to this request.
func (c *Conn) check() error {
	const correlation = 1
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = checkVersion, []kmsg.MetadataRequestTopic{} // none; nil would be all
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
	resp := &kmsg.MetadataResponse{Version: checkVersion}
	body, err := ResponseBody(b, correlation, false)
	if err == nil {
		err = resp.ReadFrom(body)
	}
	if err != nil {
		return ResponseError{Err: fmt.Errorf("read metadata response: %w", err)}
	}
	if err := c.pin.Check(c.way.broker, resp.ClusterID); err != nil {
		c.way.addresses.note(c.way.at, false) // another address of the name may be right
		return err
	}
	c.cluster = ClusterID(resp.ClusterID)
	return nil
}
