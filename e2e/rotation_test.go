package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestRotation rotates the client certificate of one of two clusters, which are
// two ways to the same brokers, while records flow: the consumers that use it
// connect anew and stay who they are, the others notice nothing; a certificate
// that the brokers refuse leaves the old connections alive.
func TestRotation(t *testing.T) {
	t.Parallel()
	authority, stranger := certs.NewAuthority(t, "clients"), certs.NewAuthority(t, "strangers")
	s := newScene(t)
	s.Cluster = kafkatest.Start(t, kafkatest.Options{TLS: &kafkatest.TLS{Authority: authority.PEM, Server: authority.Issue(t, "broker")}})
	for _, name := range []string{"first", "second"} {
		put(t, s.dir, name+"-ca.pem", authority.PEM)
		show(t, s.dir, name, authority.Issue(t, name))
	}
	topic := s.topic(t, "rotation", 2)
	one, two, other := s.entry("one", topic).withCluster("first"), s.entry("two", topic).withCluster("first"), s.entry("other", topic).withCluster("second")
	text := document(nil, one, two, other)
	for _, name := range []string{"first", "second"} {
		text = strings.Replace(text, "clusters:\n", fmt.Sprintf(
			"clusters:\n  %[1]s: {brokers: [%[2]s], tls: {ca_file: %[3]s-ca.pem, cert_file: %[3]s-cert.pem, key_file: %[3]s-key.pem}}\n",
			name, s.SecureAddrs()[0], filepath.Join(s.dir, name)), 1)
	}
	a := agenttest.Start(t, agenttest.Options{Config: text})
	entries := []entry{one, two, other}
	who := make(map[string]identity)
	for _, e := range entries {
		a.WaitState(e.name, "RUNNING")
	}
	stop, produced := s.keepProducing(t, topic, 2)
	for _, e := range entries {
		a.WaitConsumer(e.name, "read", func(c agenttest.Consumer) bool { return c.RecordsTotal > 0 })
		who[e.name] = identify(t, a.Consumer(e.name))
	}
	anew := func(name string) int {
		return strings.Count(a.Log(), `msg="reconnecting with updated credentials" consumer=`+name)
	}
	waitAnew := func(n int) {
		t.Helper()
		wait.For(t, wait.Timeout, "new connections", func() error {
			if anew("one") != n || anew("two") != n {
				return fmt.Errorf("%d and %d times, want %d", anew("one"), anew("two"), n)
			}
			return nil
		})
		for _, e := range entries {
			wantSame(t, a, e.name, who[e.name])
		}
		if anew("other") > 0 {
			t.Error("the other cluster's consumer connected anew")
		}
	}

	show(t, s.dir, "first", authority.Issue(t, "first"))
	waitAnew(1)

	show(t, s.dir, "first", stranger.Issue(t, "first"))
	for _, name := range []string{"one", "two"} {
		before := a.WaitConsumer(name, "tell of the refused certificate", func(c agenttest.Consumer) bool {
			return c.PendingChange != nil && c.PendingChange.Action == "reconnect" && c.PendingChange.Tries > 2 && c.PendingChange.Error != ""
		})
		a.WaitConsumer(name, "go on reading", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.RecordsTotal > before.RecordsTotal+200
		})
	}
	if c := a.Consumer("other"); c.PendingChange != nil {
		t.Errorf("the other cluster's consumer waits: %+v", c.PendingChange)
	}
	show(t, s.dir, "first", authority.Issue(t, "first"))
	waitAnew(2)
	a.WaitSynced(text)

	stop()
	for _, e := range entries {
		s.waitCommitted(t, a, e, int64(2*produced()))
		follow(t, e.path).wantExact(t, topic, 2, produced())
		wantSame(t, a, e.name, who[e.name])
	}
}

// put replaces a file in one step.
func put(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// show puts a certificate and its key where the configuration names them.
func show(t *testing.T, dir, name string, p certs.Pair) {
	t.Helper()
	put(t, dir, name+"-cert.pem", p.Cert)
	put(t, dir, name+"-key.pem", p.Key)
}
