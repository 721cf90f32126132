package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestCertificateRotationKeepsTheMember rotates the client certificate of one of two
// clusters, which have the same brokers, while records arrive. The consumers of that
// cluster reconnect and keep their membership, and the others are not touched. A
// certificate that the brokers reject does not close the old connections.
func TestCertificateRotationKeepsTheMember(t *testing.T) {
	t.Parallel()
	authority, stranger := certs.NewAuthority(t, "clients"), certs.NewAuthority(t, "strangers")
	s := newSceneOn(t, kafkatest.Start(t, kafkatest.Options{TLS: &kafkatest.TLS{Authority: authority.PEM, Server: authority.Issue(t, "broker")}}))
	for _, name := range []string{"first", "second"} {
		replaceFile(t, s.dir, name+"-ca.pem", authority.PEM)
		replaceCertificate(t, s.dir, name, authority.Issue(t, name))
	}
	topic := s.newTopic(t, "rotation", 2)
	one, two, other := s.entry("one", topic).withCluster("first"), s.entry("two", topic).withCluster("first"), s.entry("other", topic).withCluster("second")
	text := strings.Replace(configText(nil, one, two, other), "clusters:\n", "clusters:\n"+s.tlsCluster("first")+s.tlsCluster("second"), 1)
	a := agenttest.Start(t, agenttest.Options{Config: text})
	entries := []entry{one, two, other}
	identities := make(map[string]identity)
	for _, e := range entries {
		a.WaitState(e.name, "RUNNING")
	}
	stopProducing, produced := s.keepProducing(t, topic, 2)
	for _, e := range entries {
		a.WaitConsumer(e.name, "read", func(c agenttest.Consumer) bool { return c.RecordsTotal > 0 })
		identities[e.name] = identify(t, a.Consumer(e.name))
	}
	reconnects := func(name string) int {
		return strings.Count(a.Log(), `msg="reconnecting with updated credentials" consumer=`+name)
	}
	waitReconnects := func(n int) {
		t.Helper()
		wait.For(t, wait.Timeout, "consumers to reconnect", func() error {
			if reconnects("one") != n || reconnects("two") != n {
				return fmt.Errorf("%d and %d times, want %d", reconnects("one"), reconnects("two"), n)
			}
			return nil
		})
		for _, e := range entries {
			wantSame(t, a, e.name, identities[e.name])
		}
		if reconnects("other") > 0 {
			t.Error("the consumer of the other cluster reconnected")
		}
	}

	replaceCertificate(t, s.dir, "first", authority.Issue(t, "first"))
	waitReconnects(1)

	replaceCertificate(t, s.dir, "first", stranger.Issue(t, "first"))
	for _, name := range []string{"one", "two"} {
		before := a.WaitConsumer(name, "report the rejected certificate", func(c agenttest.Consumer) bool {
			return c.PendingChange != nil && c.PendingChange.Action == "reconnect" && c.PendingChange.Tries > 2 && c.PendingChange.Error != ""
		})
		a.WaitConsumer(name, "keep reading", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.RecordsTotal > before.RecordsTotal+200
		})
	}
	if c := a.Consumer("other"); c.PendingChange != nil {
		t.Errorf("the consumer of the other cluster has a pending change: %+v", c.PendingChange)
	}
	replaceCertificate(t, s.dir, "first", authority.Issue(t, "first"))
	waitReconnects(2)
	a.WaitSynced(text)

	stopProducing()
	for _, e := range entries {
		s.waitCommitted(t, a, e, int64(2*produced()))
		readTrail(t, e.path).wantExact(t, topic, 2, produced())
		wantSame(t, a, e.name, identities[e.name])
	}
}

// tlsCluster returns an item of "clusters" with a client certificate. The files have the name
// of the cluster.
func (s *scene) tlsCluster(name string) string {
	return fmt.Sprintf("  %[1]s: {brokers: [%[2]s], tls: {ca_file: %[3]s-ca.pem, cert_file: %[3]s-cert.pem, key_file: %[3]s-key.pem}}\n",
		name, s.SecureAddrs()[0], filepath.Join(s.dir, name))
}

// replaceCertificate replaces the files of a certificate and its key.
func replaceCertificate(t *testing.T, dir, name string, p certs.Pair) {
	t.Helper()
	replaceFile(t, dir, name+"-cert.pem", p.Cert)
	replaceFile(t, dir, name+"-key.pem", p.Key)
}
