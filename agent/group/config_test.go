package group

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/agent/testkit"
	"kcagent/config"
)

// TestRejectedLoginBlocksTheWholeCluster: once one consumer's login is rejected, no consumer of
// the cluster uses the same credentials at once, and neither does the fetcher, even if all
// consumers left meanwhile. Other credentials are used.
func TestRejectedLoginBlocksTheWholeCluster(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	cs := kafka.NewClusters(slog.New(slog.DiscardHandler))
	t.Cleanup(cs.Close)
	spec := &config.Consumer{Name: "a", Group: "g", Cluster: config.Cluster{
		Brokers: []string{"127.0.0.1:1"}, SASL: &config.SASL{Mechanism: config.Plain, Username: "u", PasswordFile: file},
	}}
	user := func(c *kafka.Cluster) (byFetcher, byMember error) {
		t.Helper()
		creds, err := c.Credentials()
		if err != nil {
			t.Fatal(err)
		}
		conf, err := Config(spec, creds, kafka.NewDialer(), c.Fetcher)
		if err != nil {
			t.Fatal(err)
		}
		_, byFetcher = c.Config()
		conn, byMember := conf.Net.Proxy.Dialer.Dial("tcp", "127.0.0.1:1")
		if conn != nil {
			_ = conn.Close()
		}
		return byFetcher, byMember
	}
	first := cs.Acquire(spec)
	first.RecordError(errors.New("something else"))
	if byFetcher, byMember := user(first); byFetcher != nil || login.Rejected(byMember) {
		t.Fatalf("before a rejection: %v, %v", byFetcher, byMember)
	}
	first.RecordError(fmt.Errorf("join group g: %w", sarama.ErrSASLAuthenticationFailed))
	cs.Release(first)
	second := cs.Acquire(spec)
	if second == first {
		t.Fatal("the cluster was kept")
	}
	byFetcher, byMember := user(second)
	for _, err := range []error{byFetcher, byMember} {
		if !login.Rejected(err) || strings.Contains(err.Error(), "join group") {
			t.Errorf("after a rejection: %v", err)
		}
	}
	cs.Release(second)
	write("right")
	third := cs.Acquire(spec)
	if byFetcher, byMember := user(third); byFetcher != nil || login.Rejected(byMember) {
		t.Errorf("with other credentials: %v, %v", byFetcher, byMember)
	}
	write("wrong")
	if _, err := third.ReloadCredentials(); err != nil {
		t.Fatal(err)
	}
	if byFetcher, byMember := user(third); !login.Rejected(byFetcher) || !login.Rejected(byMember) {
		t.Errorf("with the rejected credentials again: %v, %v", byFetcher, byMember)
	}
	cs.Release(third)
}

// TestLoginsUseFrames: coordinatorConn supports no other logins, so sarama must use
// SaslHandshake v1.
func TestLoginsUseFrames(t *testing.T) {
	for _, mechanism := range []config.Mechanism{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		spec := &config.Consumer{Name: "c", Cluster: config.Cluster{SASL: &config.SASL{Mechanism: mechanism, Username: "u", Password: config.NewSecret("p")}}}
		creds, err := login.ReadCredentials(spec.Cluster)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := Config(spec, creds, kafka.NewDialer(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if v := conf.Net.SASL.Version; v != sarama.SASLHandshakeV1 {
			t.Errorf("%s: SaslHandshake v%d", mechanism, v)
		}
	}
}

func TestCoordinatorReceivesTheSessionTimeoutOfTheFile(t *testing.T) {
	spec := testkit.Parse(t, "clusters: {k: {brokers: [a:1], session_timeout: 6s}}\nconsumers: [{name: c, cluster: k, topics: [t], sink: {stdout: {}}}]\n").Consumers[0]
	conf, err := Config(&spec, &login.Credentials{}, kafka.NewDialer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if g := conf.Consumer.Group; g.Session.Timeout != 6*time.Second || g.Heartbeat.Interval != time.Second {
		t.Errorf("session timeout %v, heartbeat every %v", g.Session.Timeout, g.Heartbeat.Interval)
	}
}

// TestClientsShareRequestSettings: heartbeats are retried until the session is over, and
// requests before a generation a few times only, with settings that all clients share.
func TestClientsShareRequestSettings(t *testing.T) {
	clusters := kafka.NewClusters(slog.New(slog.DiscardHandler))
	t.Cleanup(clusters.Close)
	var shared []*sarama.Config
	for _, name := range []string{"a", "b"} {
		spec := &config.Consumer{Name: name, Group: "g", Cluster: config.Cluster{Brokers: []string{"127.0.0.1:1"}}}
		cluster := clusters.Acquire(spec)
		creds, err := cluster.Credentials()
		if err != nil {
			t.Fatal(err)
		}
		conf, err := Config(spec, creds, kafka.NewDialer(), cluster.Fetcher)
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(t.Context(), conf, creds, "g", kafka.NewDialer(), cluster.Fetcher)
		if n := c.Config().Metadata.Retry.Max; n != requestRetries || conf.Metadata.Retry.Max != heartbeatRetries {
			t.Errorf("requests have %d retries and heartbeats %d", n, conf.Metadata.Retry.Max)
		}
		if err := c.Config().Validate(); err != nil {
			t.Error(err)
		}
		shared = append(shared, c.Config())
	}
	if shared[0] != shared[1] {
		t.Error("each client has settings of its own")
	}
}
