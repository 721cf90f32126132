// Package kafkatest brings up real Apache Kafka for tests and benchmarks: KRaft
// brokers on loopback ports, from jars that Maven fetches once per version. The
// brokers end with the test process, however that ends.
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
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"kcagent/e2e/certs"
)

// The versions of Apache Kafka that tests run on.
const (
	Newest = "4.4.0"
	Old    = "3.9.1" // the last that knows ZooKeeper, as many clusters still do
)

// versionEnv names another version for clusters whose Options name none.
const versionEnv = "KCAGENT_KAFKA_VERSION"

// version is the one for o.
func (o Options) version() string { return cmp.Or(o.Version, os.Getenv(versionEnv), Newest) }

// clusterID is any base64 of 16 bytes; every test cluster may have the same.
const clusterID = "a2NhZ2VudC10ZXN0cy0tMQ"

const readyTimeout = 90 * time.Second

// Options describe a cluster. The zero value is one broker with a plaintext
// listener, where every topic, internal ones too, has one replica.
type Options struct {
	// Version of Apache Kafka; "" is that of the environment, or the newest.
	Version string
	// ClusterID is base64 of 16 bytes; "" is the one that most test clusters have.
	ClusterID string
	// Brokers is how many there are; 0 is 1. The first is the controller, too.
	Brokers int
	// Properties go into every broker's server.properties and win over what
	// this package would write there.
	Properties map[string]string
	// PropertiesOf, if set, returns more of them for the broker with a node id.
	PropertiesOf func(id int) map[string]string
	// TLS, if set, adds a listener with TLS.
	TLS *TLS
	// Advertise, if set, adds a plaintext listener at addr, of which clients are
	// told that it is reached at what Advertise returns.
	Advertise func(addr string) string
}

// TLS is what the listener with TLS shows and trusts, as PEM.
type TLS struct {
	Authority []byte     // that signs the clients' certificates
	Server    certs.Pair // for 127.0.0.1
	// SASL has clients log in, with SCRAM and a password that was set by
	// [Cluster.SetPassword] or with PLAIN as [PlainUser], rather than show a
	// certificate.
	SASL bool
	// Tokens, if set, has clients log in with its tokens (OAUTHBEARER), too.
	Tokens *Issuer
}

// The user that may log in with PLAIN.
const PlainUser, PlainPassword = "plain-user", "plain-password"

// A Cluster is a running Kafka cluster. Its methods are safe for concurrent
// use, except for those that end or start brokers.
type Cluster struct {
	// Brokers are in the order of their node ids, from 1.
	Brokers []*Broker

	dir    string
	client *kgo.Client
}

// Start starts a cluster that ends, with its data, at the end of the test. It
// skips the test where Kafka cannot run; see [Require].
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
	// A port that was free a moment ago may be taken now, by another package's
	// tests: then once more with others.
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
		return nil, fmt.Errorf("make folder for kafka: %w", err)
	}
	c := &Cluster{dir: dir}
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
	controller, secure, detour := ports[0], ports[1+n:1+2*n], ports[1+2*n:]
	for i, port := range ports[1 : 1+n] {
		b := &Broker{id: i + 1, port: port, securePort: secure[i], dir: filepath.Join(dir, fmt.Sprintf("broker-%d", i+1)), jars: jars}
		props := b.properties(controller)
		if o.TLS != nil {
			if err := b.secure(props, *o.TLS); err != nil {
				return nil, err
			}
		}
		if o.Advertise != nil {
			b.advertise(props, detour[i], o.Advertise)
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
	// The newest offset requests name topics by id, which buys a test nothing.
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MaxVersions(kversion.V4_0_0()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.RequestTimeoutOverhead(3*time.Second), kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryTimeout(readyTimeout))
	if err != nil {
		return nil, fmt.Errorf("make kafka client: %w", err)
	}
	return c, c.awaitReady()
}

// awaitReady waits until the metadata names every broker.
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
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(try, c.client)
		done()
		switch {
		case err != nil:
			why = err
		case len(resp.Brokers) == len(c.Brokers):
			return nil
		default:
			why = fmt.Errorf("metadata names %d of %d brokers", len(resp.Brokers), len(c.Brokers))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("kafka is not ready after %v: %w; broker 1's log:\n%s", readyTimeout, why, c.Brokers[0].logTail())
		}
	}
}

func (c *Cluster) dead() *Broker {
	for _, b := range c.Brokers {
		if !b.running() {
			return b
		}
	}
	return nil
}

// Addrs are the brokers' addresses, host:port. They stay over restarts.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addrs[i] = b.Addr()
	}
	return addrs
}

// SecureAddrs are the addresses of the brokers' listeners with TLS.
func (c *Cluster) SecureAddrs() []string {
	addrs := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addrs[i] = b.SecureAddr()
	}
	return addrs
}

// DetourAddrs are where clients reach the listeners of Options.Advertise.
func (c *Cluster) DetourAddrs() []string {
	addrs := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addrs[i] = b.detour
	}
	return addrs
}

// Client is the cluster's own client, for requests that this package has no
// method for. It must not be closed. Records need a partition.
func (c *Cluster) Client() *kgo.Client { return c.client }

// Stop shuts every broker down in good order and keeps the data.
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

// Pause makes every broker a black hole: connections stay, and nothing
// answers.
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

// Restart starts the brokers that are down again, on their addresses and data,
// and returns when the cluster is ready.
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
	_ = os.RemoveAll(c.dir) // a temporary folder; the system would do it in time
}
