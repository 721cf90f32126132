package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A logged scene's brokers want a login over TLS, whose sessions last two
// seconds.
type logged struct {
	*scene
	entries []entry
}

const sessionLasts = 2 * time.Second

func newLogged(t *testing.T) *logged {
	t.Helper()
	authority := certs.NewAuthority(t, "authority")
	l := &logged{scene: newScene(t)}
	l.Cluster = kafkatest.Start(t, kafkatest.Options{
		TLS:        &kafkatest.TLS{Authority: authority.PEM, Server: authority.Issue(t, "broker"), SASL: true},
		Properties: map[string]string{"connections.max.reauth.ms": fmt.Sprint(sessionLasts.Milliseconds())},
	})
	put(t, l.dir, "ca.pem", authority.PEM)
	return l
}

// cluster is an entry of the file's clusters.
func (l *logged) cluster(name, mechanism, user string) string {
	return fmt.Sprintf("  %s: {brokers: [%s], tls: {ca_file: %s}, sasl: {mechanism: %s, username: %s, password_file: %s}}\n",
		name, l.SecureAddrs()[0], filepath.Join(l.dir, "ca.pem"), mechanism, user, filepath.Join(l.dir, name))
}

// TestLogins: every mechanism reads on over the ends of its sessions (KIP-368);
// a wrong password is an error that names the cluster, and heals by itself once
// the file holds the right one; a password that was changed at the brokers is
// taken over while records flow.
func TestLogins(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	topic := l.topic(t, "logins", 2)
	l.SetPassword(t, "reader", "first-secret")
	var clusters string
	for name, mechanism := range map[string]string{"plain": "PLAIN", "scram256": "SCRAM-SHA-256", "scram512": "SCRAM-SHA-512", "wrong": "SCRAM-SHA-512"} {
		user, password := "reader", "first-secret"
		switch name {
		case "plain":
			user, password = kafkatest.PlainUser, kafkatest.PlainPassword
		case "wrong":
			password = "mistyped-secret"
		}
		put(t, l.dir, name, []byte(password+"\n"))
		clusters += l.cluster(name, mechanism, user)
		l.entries = append(l.entries, l.entry(name, topic).withCluster(name))
	}
	a := agenttest.Start(t, agenttest.Options{Config: strings.Replace(document(nil, l.entries...), "clusters:\n", "clusters:\n"+clusters, 1)})
	stop, produced := l.keepProducing(t, topic, 2)
	who := make(map[string]identity)
	for _, name := range []string{"plain", "scram256", "scram512"} {
		a.WaitConsumer(name, "read", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && c.RecordsTotal > 0 })
		who[name] = identify(t, a.Consumer(name))
	}
	a.WaitConsumer("wrong", "fail for its password", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), "authenticate to cluster wrong")
	})
	put(t, l.dir, "wrong", []byte("first-secret\n"))
	a.WaitConsumer("wrong", "read with the right password", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && c.RecordsTotal > 0 })

	// The brokers cut no connection for it: the next login fails, and those of
	// two of the clusters come at the end of a session.
	l.SetPassword(t, "reader", "second-secret")
	for _, name := range []string{"scram256", "scram512", "wrong"} {
		put(t, l.dir, name, []byte("second-secret\n"))
	}
	began := time.Now()
	for _, e := range l.entries {
		before := a.Consumer(e.name).RecordsTotal
		a.WaitConsumer(e.name, "read over the ends of sessions", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.RecordsTotal > before && time.Since(began) > 3*sessionLasts
		})
	}
	stop()
	for _, e := range l.entries {
		l.waitCommitted(t, a, e, int64(2*produced()))
		follow(t, e.path).wantExact(t, topic, 2, produced())
		if was, ok := who[e.name]; ok && e.name == "plain" {
			wantSame(t, a, e.name, was)
		}
	}
	a.Signal(os.Interrupt)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("the agent ended with exit code %d", code)
	}
	if strings.Contains(a.Log(), "-secret") {
		t.Error("a password is in the log")
	}
}
