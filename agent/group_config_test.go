package agent

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
	cs := &clusters{log: slog.New(slog.DiscardHandler)}
	t.Cleanup(cs.close)
	spec := config.Consumer{Name: "a", Group: "g", Cluster: config.Cluster{
		Brokers: []string{"127.0.0.1:1"}, SASL: &config.SASL{Mechanism: config.Plain, Username: "u", PasswordFile: file},
	}}
	login := func(c *cluster) (byFetcher, byMember error) {
		t.Helper()
		creds, err := c.credentials()
		if err != nil {
			t.Fatal(err)
		}
		conf, err := groupConfig(spec, creds, newDialer(), c.Fetcher)
		if err != nil {
			t.Fatal(err)
		}
		_, byFetcher = c.config()
		conn, byMember := conf.Net.Proxy.Dialer.Dial("tcp", "127.0.0.1:1")
		if conn != nil {
			_ = conn.Close()
		}
		return byFetcher, byMember
	}
	first := cs.acquire(spec)
	first.recordError(errors.New("something else"))
	if byFetcher, byMember := login(first); byFetcher != nil || loginRejected(byMember) {
		t.Fatalf("before a rejection: %v, %v", byFetcher, byMember)
	}
	first.recordError(fmt.Errorf("join group g: %w", sarama.ErrSASLAuthenticationFailed))
	cs.release(first)
	second := cs.acquire(spec)
	if second == first {
		t.Fatal("the cluster was kept")
	}
	byFetcher, byMember := login(second)
	for _, err := range []error{byFetcher, byMember} {
		if !loginRejected(err) || strings.Contains(err.Error(), "join group") {
			t.Errorf("after a rejection: %v", err)
		}
	}
	cs.release(second)
	write("right")
	third := cs.acquire(spec)
	if byFetcher, byMember := login(third); byFetcher != nil || loginRejected(byMember) {
		t.Errorf("with other credentials: %v, %v", byFetcher, byMember)
	}
	write("wrong")
	if _, err := third.reloadCredentials(); err != nil {
		t.Fatal(err)
	}
	if byFetcher, byMember := login(third); !loginRejected(byFetcher) || !loginRejected(byMember) {
		t.Errorf("with the rejected credentials again: %v, %v", byFetcher, byMember)
	}
	cs.release(third)
}

// TestLoginsAreFrames: groupConn supports no other logins, so sarama must use SaslHandshake
// v1.
func TestLoginsAreFrames(t *testing.T) {
	for _, mechanism := range []config.Mechanism{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		spec := config.Consumer{Name: "c", Cluster: config.Cluster{SASL: &config.SASL{Mechanism: mechanism, Username: "u", Password: config.NewSecret("p")}}}
		creds, err := readCredentials(spec.Cluster)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := groupConfig(spec, creds, newDialer(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if v := conf.Net.SASL.Version; v != sarama.SASLHandshakeV1 {
			t.Errorf("%s: SaslHandshake v%d", mechanism, v)
		}
	}
}

// TestSessionTimeoutIsThatOfTheFile: the coordinator gets it.
func TestSessionTimeoutIsThatOfTheFile(t *testing.T) {
	spec := mustParse(t, "clusters: {k: {brokers: [a:1], session_timeout: 6s}}\nconsumers: [{name: c, cluster: k, topics: [t], sink: {stdout: {}}}]\n").Consumers[0]
	conf, err := groupConfig(spec, &credentials{}, newDialer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if g := conf.Consumer.Group; g.Session.Timeout != 6*time.Second || g.Heartbeat.Interval != time.Second {
		t.Errorf("session timeout %v, heartbeat every %v", g.Session.Timeout, g.Heartbeat.Interval)
	}
}
