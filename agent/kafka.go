package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"

	"kcagent/config"
	"kcagent/fetch"
)

// SetUpSarama sets what sarama keeps for the whole process. It must run before
// any other call of sarama: its metrics cost 85 KB a group and nobody reads
// them, and its default for a decompressed batch is no limit at all.
//
// sarama's log, which cannot tell one consumer from another, goes to log at
// debug level; a nil log drops it. A panic in one of sarama's goroutines ends
// the process: caught, it would leave a consumer that stands still and looks
// well, and whoever supervises the process brings everything back from the
// committed offsets.
func SetUpSarama(log *slog.Logger) {
	metrics.UseNilMetrics = true
	sarama.MaxDecompressedBatchSize = maxBatchBytes
	if log != nil && log.Enabled(context.Background(), slog.LevelDebug) {
		sarama.Logger = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	}
}

const (
	maxBatchBytes = 128 << 20 // of one decompressed batch

	dialTimeout      = 5 * time.Second
	rebalanceTimeout = 25 * time.Second
	// readTimeout is how long sarama waits for a response. A join may take longer than
	// that (sarama issue 2820), see groupConn and watchJoin.
	readTimeout = 30 * time.Second
)

// heartbeatTries is how often a heartbeat is sent that fails, in ten seconds at
// least, with two tries and one pause of sarama's each time: a broker that is
// restarted costs no generation then, nor does one that dies, which a cluster takes
// nine seconds to notice by default.
const heartbeatTries = 2 * 10 * 4

// sessionTimeout returns the session timeout of the consumer's member.
func sessionTimeout(spec *config.Consumer) time.Duration {
	return cmp.Or(spec.Cluster.SessionTimeout, config.DefaultSessionTimeout)
}

// heartbeat is how often a member sends one. A member learns by its heartbeats that
// another one has joined, so the interval is most of the duration of a rebalance. A
// thousand consumers send 500 a second.
func heartbeat(session time.Duration) time.Duration { return min(2*time.Second, session/6) }

// clusterConfig is how to reach a cluster.
func clusterConfig(clientID string, cluster config.Cluster, keys *credentials) (*sarama.Config, error) {
	s := sarama.NewConfig()
	s.ClientID = clientID
	s.Version = sarama.MaxVersion // the highest to use: each request is negotiated down
	if v := cluster.KafkaVersion; v != "" {
		version, err := sarama.ParseKafkaVersion(v)
		if err != nil {
			return nil, fmt.Errorf("parse kafka_version: %w", err)
		}
		s.Version = version
	}
	s.Net.DialTimeout, s.Net.ReadTimeout, s.Net.WriteTimeout = dialTimeout, readTimeout, 15*time.Second
	s.Metadata.Full = false                   // building a client is then local: a dead cluster does not fail it
	s.Metadata.AllowAutoTopicCreation = false // a typo must not make a topic
	s.Metadata.Timeout = 15 * time.Second
	s.Metadata.Retry.Max = 3
	s.Metadata.Retry.BackoffFunc = func(n, _ int) time.Duration { return jitter(100 * time.Millisecond << min(n, 5)) }
	keys.secure(s, cluster)
	return s, nil
}

// groupConfig is how a consumer takes part in its group.
func groupConfig(spec config.Consumer, keys *credentials, d *dialer, cluster *fetch.Fetcher) (*sarama.Config, error) {
	s, err := clusterConfig("kcagent/"+spec.Name, spec.Cluster, keys)
	if err != nil {
		return nil, err
	}
	s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, coordinatorDialer{d, keys.tls, cluster}
	s.Net.TLS.Enable, s.Net.TLS.Config = false, nil // the dialer's: it looks at what comes first
	s.Metadata.RefreshFrequency = 10 * time.Second  // how often the leader of the group looks at the number of partitions
	s.ChannelBufferSize = 0                         // nothing comes through sarama's channels
	c := &s.Consumer
	c.Offsets.AutoCommit.Enable = false
	c.Offsets.Initial = sarama.OffsetOldest
	c.Group.ResetInvalidOffsets = false // on_offset_out_of_range decides, and counts
	c.Group.InstanceId = spec.InstanceID
	c.Group.Session.Timeout = sessionTimeout(&spec)
	c.Group.Heartbeat.Interval = heartbeat(c.Group.Session.Timeout)
	c.Group.Rebalance.Timeout = rebalanceTimeout
	// sarama waits 2 s after each join that a coordinator could not answer: while it loads
	// the group, and when another member begins a rebalance meanwhile.
	c.Group.Rebalance.Retry.Backoff, c.Group.Rebalance.Retry.Max = 500*time.Millisecond, 16
	c.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("check kafka settings: %w", err)
	}
	return s, nil
}

// jitter spreads d over [d/2, d), so that consumers that lost one broker at
// one moment do not all come back at one moment.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// A dialer makes every connection of one consumer, so that they can all be
// cut: sarama's requests cannot be cancelled, but they end with their
// connection, and so a black-holed broker delays no stop.
type dialer struct {
	ctx    context.Context // ends with Cut
	cancel context.CancelFunc

	heard      atomic.Int64     // Unix nanoseconds of the last bytes from the coordinator
	begun      atomic.Bool      // a generation is between Setup and the end of Cleanup; see groupConn
	membership fetch.Membership // whether the consumer is a member of its group

	mu    sync.Mutex
	conns map[*trackedConn]struct{}
}

func newDialer() *dialer {
	d := &dialer{conns: make(map[*trackedConn]struct{})}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

var errCut = errors.New("connections were cut: the consumer did not stop in time")

// track registers conn, so that Cut closes it.
func (d *dialer) track(conn net.Conn) (*trackedConn, error) {
	t := &trackedConn{Conn: conn, dialer: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		_ = conn.Close()
		return nil, errCut
	}
	d.conns[t] = struct{}{}
	return t, nil
}

// A coordinatorDialer makes a consumer's connections with certain credentials.
type coordinatorDialer struct {
	*dialer
	tls     *tls.Config // nil without TLS
	cluster *fetch.Fetcher
}

// Dial implements proxy.Dialer. It takes five seconds at most.
func (d coordinatorDialer) Dial(_, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	var wire *trackedConn
	conn, err := d.cluster.Connect(ctx, addr, fetch.Way{
		TLS: d.tls, Who: "its coordinator at " + addr, Member: &d.membership,
		Wrap: func(conn net.Conn) (_ net.Conn, err error) {
			wire, err = d.track(conn)
			return wire, err
		},
	})
	if err != nil {
		return nil, err
	}
	return &groupConn{Conn: conn, wire: wire, begun: d.begun.Load}, nil
}

// Cut closes every connection and refuses new ones.
func (d *dialer) Cut() {
	d.cancel()
	d.mu.Lock()
	conns := d.conns
	d.conns = make(map[*trackedConn]struct{})
	d.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

// overdue lists the connections on which an answer has been waited for longer than
// limit, and says when something came last on any.
func (d *dialer) overdue(limit time.Duration) (late []*trackedConn, heard time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if asked := c.asked.Load(); asked != 0 && time.Since(time.Unix(0, asked)) > limit {
			late = append(late, c)
		}
	}
	return late, time.Unix(0, d.heard.Load())
}

type trackedConn struct {
	net.Conn
	dialer *dialer
	asked  atomic.Int64           // Unix nanoseconds of the first request without a later response; 0 if there is none
	waits  atomic.Int64           // Unix nanoseconds of a join that was not answered yet; 0 if there is none
	member atomic.Pointer[string] // member id of the last join; nil if there was none
}

func (c *trackedConn) Write(p []byte) (int, error) {
	c.asked.CompareAndSwap(0, time.Now().UnixNano())
	return c.Conn.Write(p)
}

func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.asked.Store(0)
		c.dialer.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *trackedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
