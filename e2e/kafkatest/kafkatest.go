// Package kafkatest runs real Apache Kafka for tests and benchmarks: KRaft brokers on
// loopback ports, from jars that Maven downloads once per version. The brokers end with
// the test process, even if that is killed.
//
// Start with [Start] for a cluster of one test, or [Shared] for one of a package. All
// requests to a cluster pass through [Request], which retries what passes, and every
// change (a topic, partitions, an ACL) is complete when its method returns: on all
// brokers, since a client may be connected to any of them.
package kafkatest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"kcagent/e2e/certs"
)

// The versions of Apache Kafka that tests run on.
const (
	Newest = "4.4.0"
	Old    = "3.9.1" // the last line that supports ZooKeeper; many clusters still run it
)

// versionEnv is the environment variable with the version for Options without one.
const versionEnv = "KCAGENT_KAFKA_VERSION"

// version returns the version that o selects.
func (o Options) version() string { return cmp.Or(o.Version, os.Getenv(versionEnv), Newest) }

// clusterID is base64 of 16 bytes, the id of every cluster whose Options have none.
const clusterID = "a2NhZ2VudC10ZXN0cy0tMQ"

const readyTimeout = 90 * time.Second

// Options describe a cluster. The zero value is one broker with a plaintext listener.
// Every topic has one replica, internal topics as well.
type Options struct {
	// Version of Apache Kafka; "" selects that of the environment, or the newest.
	Version string
	// ClusterID is base64 of 16 bytes; "" selects the id that most test clusters have.
	ClusterID string
	// Brokers is the number of brokers; 0 stands for 1. The first is the controller as well.
	Brokers int
	// Properties override the settings that this package writes into server.properties of
	// every broker.
	Properties map[string]string
	// PropertiesOf, if set, returns further properties for the broker with a node id.
	PropertiesOf func(id int) map[string]string
	// TLS, if set, adds a listener with TLS.
	TLS *TLS
	// Advertise, if set, adds a plaintext listener at addr to each broker and returns its
	// advertised address, such as that of a proxy.
	Advertise func(addr string) string
}

// TLS configures the listener with TLS. Certificates are PEM.
type TLS struct {
	Authority []byte     // signs the certificates of clients
	Server    certs.Pair // for 127.0.0.1
	// SASL requires a login instead of a client certificate: by SCRAM with a password of
	// [Cluster.SetPassword], or by PLAIN as [PlainUser].
	SASL bool
	// Tokens, if set, also permits logins with its tokens (OAUTHBEARER).
	Tokens *Issuer
}

// PlainUser and PlainPassword are accepted for PLAIN.
const PlainUser, PlainPassword = "plain-user", "plain-password"

// A Cluster is a running Kafka cluster. Its methods are safe for concurrent use, except
// those that start or end brokers.
type Cluster struct {
	// Brokers are in the order of their node ids, from 1.
	Brokers []*Broker

	dir     string
	version string
	client  *kgo.Client
}

// Start starts a cluster that is removed with its data at the end of the test. It skips
// the test where Kafka cannot run, as [Require] does.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	Require(t)
	c, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func start(o Options) (*Cluster, error) {
	jars, err := fetchJars(o.version())
	if err != nil {
		return nil, err
	}
	// Tests of another package may take a port between its selection and the start of the
	// broker. Another attempt selects other ports.
	for try := 1; ; try++ {
		c, err := tryStart(o, jars)
		if err == nil {
			return c, nil
		}
		if try == 3 || !bytes.Contains([]byte(err.Error()), []byte("Address already in use")) {
			return nil, err
		}
	}
}

func tryStart(o Options, jars string) (_ *Cluster, err error) {
	dir, err := os.MkdirTemp("", "kcagent-kafka-")
	if err != nil {
		return nil, fmt.Errorf("create folder for kafka: %w", err)
	}
	c := &Cluster{dir: dir, version: o.version()}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	n := cmp.Or(o.Brokers, 1)
	ports, err := freePorts(1 + 3*n)
	if err != nil {
		return nil, err
	}
	controller, secure, proxied := ports[0], ports[1+n:1+2*n], ports[1+2*n:]
	for i, port := range ports[1 : 1+n] {
		b := &Broker{id: i + 1, port: port, securePort: secure[i], dir: filepath.Join(dir, fmt.Sprintf("broker-%d", i+1)), jars: jars}
		props := b.properties(controller)
		if o.TLS != nil {
			if err := b.secure(props, *o.TLS); err != nil {
				return nil, err
			}
		}
		if o.Advertise != nil {
			b.advertise(props, proxied[i], o.Advertise)
		}
		maps.Copy(props, o.Properties)
		if o.PropertiesOf != nil {
			maps.Copy(props, o.PropertiesOf(b.id))
		}
		if err := b.format(props, cmp.Or(o.ClusterID, clusterID)); err != nil {
			return nil, err
		}
		if err := b.launch(); err != nil {
			return nil, err
		}
		c.Brokers = append(c.Brokers, b)
	}
	// The newest offset requests name topics by id, which no test needs.
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MaxVersions(kversion.V4_0_0()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.RequestTimeoutOverhead(3*time.Second), kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryTimeout(readyTimeout))
	if err != nil {
		return nil, fmt.Errorf("create kafka client: %w", err)
	}
	return c, c.awaitReady()
}

// awaitReady waits until every broker responds and knows every other one. It asks each of
// them: after a restart, the metadata of one broker may still list a broker that is down.
func (c *Cluster) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var why error
	for {
		if b := c.dead(); b != nil {
			return fmt.Errorf("kafka broker %d ended while it started; its log:\n%s", b.id, b.logTail())
		}
		try, done := context.WithTimeout(ctx, 2*time.Second)
		why = c.ready(try)
		done()
		if why == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("kafka is not ready after %v: %w; broker 1's log:\n%s", readyTimeout, why, c.Brokers[0].logTail())
		}
	}
}

// ready returns nil if every broker knows every broker.
func (c *Cluster) ready(ctx context.Context) error {
	for _, b := range c.Brokers {
		resp, err := topicMetadata().RequestWith(ctx, c.client.Broker(b.id))
		if err != nil {
			return fmt.Errorf("broker %d: %w", b.id, err)
		}
		if n := len(resp.Brokers); n < len(c.Brokers) {
			return fmt.Errorf("broker %d knows %d of %d brokers", b.id, n, len(c.Brokers))
		}
	}
	return nil
}

// dead returns a broker whose process has ended.
func (c *Cluster) dead() *Broker {
	for _, b := range c.Brokers {
		if !b.running() {
			return b
		}
	}
	return nil
}

// Addrs returns the addresses of the plaintext listeners, host:port. Restarts keep them.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addrs[i] = b.Addr()
	}
	return addrs
}

// SecureAddrs returns the addresses of the listeners with TLS.
func (c *Cluster) SecureAddrs() []string {
	addrs := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addrs[i] = b.SecureAddr()
	}
	return addrs
}

// AdvertisedAddrs returns the addresses that Options.Advertise returned.
func (c *Cluster) AdvertisedAddrs() []string {
	addrs := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addrs[i] = b.advertised
	}
	return addrs
}

// Version returns the version of Apache Kafka, such as 4.4.0.
func (c *Cluster) Version() string { return c.version }

// Client returns the client of the cluster, for requests that this package has no method
// for. Callers must not close it, and must set the partition of records.
func (c *Cluster) Client() *kgo.Client { return c.client }

// Stop shuts every broker down cleanly and keeps the data.
func (c *Cluster) Stop() {
	for i := len(c.Brokers) - 1; i >= 0; i-- { // the controller last: the others report to it
		c.Brokers[i].Stop()
	}
}

// Kill ends every broker at once, as a power cut would, and keeps the data.
func (c *Cluster) Kill() {
	for _, b := range c.Brokers {
		b.Kill()
	}
}

// Pause suspends every broker: connections stay open, and no broker responds.
func (c *Cluster) Pause() {
	for _, b := range c.Brokers {
		b.Pause()
	}
}

// Continue ends a Pause.
func (c *Cluster) Continue() {
	for _, b := range c.Brokers {
		b.Continue()
	}
}

// Restart starts the brokers that are down, with their addresses and data, and returns
// when the cluster is ready.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	for _, b := range c.Brokers {
		if b.running() {
			continue
		}
		if err := b.launch(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.awaitReady(); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) close() {
	if c.client != nil {
		c.client.Close()
	}
	c.Kill()
	_ = os.RemoveAll(c.dir) // a temporary folder
}
