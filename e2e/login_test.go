package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
)

// A loginScene has a broker that requires a login over TLS, and a token server.
type loginScene struct {
	*scene
	entries []entry
	tokens  *kafkatest.Issuer
	server  string       // URL of the token server
	issued  atomic.Int32 // tokens
}

const (
	sessionLasts = 2 * time.Second
	tokenLives   = 10 * time.Second
)

// newLoginScene starts the broker with further properties.
func newLoginScene(t *testing.T, properties map[string]string) *loginScene {
	t.Helper()
	authority := certs.NewAuthority(t, "authority")
	l := &loginScene{scene: newScene(t), tokens: kafkatest.NewIssuer(t)}
	l.Cluster = kafkatest.Start(t, kafkatest.Options{
		TLS:        &kafkatest.TLS{Authority: authority.PEM, Server: authority.Issue(t, "broker"), SASL: true, Tokens: l.tokens},
		Properties: properties,
	})
	replaceFile(t, l.dir, "ca.pem", authority.PEM)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != "reader" || secret != "client-secret" {
			http.Error(w, `{"error": "invalid_client"}`, http.StatusUnauthorized)
			return
		}
		l.issued.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"access_token": l.tokens.Token(t, "reader", tokenLives), "token_type": "Bearer", "expires_in": tokenLives.Seconds(),
		})
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "tokens").TLS(t)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	l.server = server.URL
	return l
}

// cluster returns an item of "clusters". The secret is in the file with the name of the
// cluster.
func (l *loginScene) cluster(name, mechanism, user string) string {
	file := filepath.Join(l.dir, name)
	login := fmt.Sprintf("username: %s, password_file: %s", user, file)
	switch user {
	case byFile:
		login = fmt.Sprintf("oauth: {token_file: %s}", file)
	case byServer:
		login = fmt.Sprintf("oauth: {token_url: %q, ca_file: %s, client_id: reader, client_secret_file: %s}", l.server, filepath.Join(l.dir, "ca.pem"), file)
	}
	return fmt.Sprintf("  %s: {brokers: [%s], tls: {ca_file: %s}, sasl: {mechanism: %s, %s}}\n",
		name, l.SecureAddrs()[0], filepath.Join(l.dir, "ca.pem"), mechanism, login)
}

// shortSessions returns the property that limits sessions to sessionLasts.
func shortSessions() map[string]string {
	return map[string]string{"connections.max.reauth.ms": fmt.Sprint(sessionLasts.Milliseconds())}
}

// byFile and byServer stand for a user whose token comes from a file or from the token
// server.
const byFile, byServer = "a token file", "a token server"

// logins writes the secrets of all mechanisms and returns their clusters. The secrets of
// wrong, forged and stranger are invalid.
func (l *loginScene) logins(t *testing.T, topic, token string) (clusters string) {
	t.Helper()
	for name, login := range map[string]struct{ mechanism, user, secret string }{
		"plain":    {"PLAIN", kafkatest.PlainUser, kafkatest.PlainPassword},
		"scram256": {"SCRAM-SHA-256", "reader", "first-secret"},
		"scram512": {"SCRAM-SHA-512", "reader", "first-secret"},
		"wrong":    {"SCRAM-SHA-512", "reader", "mistyped-secret"},
		"filed":    {"OAUTHBEARER", byFile, token},
		"served":   {"OAUTHBEARER", byServer, "client-secret"},
		"forged":   {"OAUTHBEARER", byFile, kafkatest.NewIssuer(t).Token(t, "reader", time.Hour)},
		"stranger": {"OAUTHBEARER", byServer, "no-secret"},
	} {
		replaceFile(t, l.dir, name, []byte(login.secret+"\n"))
		clusters += l.cluster(name, login.mechanism, login.user)
		l.entries = append(l.entries, l.entry(name, topic).withCluster(name))
	}
	return clusters
}

// TestLoginsSurviveSessionEndsAndNewSecrets: with every mechanism, the consumer keeps
// reading after the end of its session (KIP-368). A wrong secret is an error that names
// the cluster, until the file has the right one. A password that changes on the brokers is
// replaced while records arrive.
func TestLoginsSurviveSessionEndsAndNewSecrets(t *testing.T) {
	t.Parallel()
	l := newLoginScene(t, shortSessions())
	topic := l.newTopic(t, "logins", 2)
	l.SetPassword(t, "reader", "first-secret")
	first := l.tokens.Token(t, "reader", time.Hour)
	clusters := l.logins(t, topic, first)
	clusters += fmt.Sprintf("  inline: {brokers: [%s], tls: {ca_file: %s}, sasl: {mechanism: PLAIN, username: nobody, password: inline-secret}}\n",
		l.SecureAddrs()[0], filepath.Join(l.dir, "ca.pem"))
	rejected := l.entry("inline", topic).withCluster("inline")
	a := agenttest.Start(t, agenttest.Options{
		Config: strings.Replace(configText(nil, append([]entry{rejected}, l.entries...)...), "clusters:\n", "clusters:\n"+clusters, 1),
		Args:   []string{"--log-level", "debug"},
	})
	stopProducing, produced := l.keepProducing(t, topic, 2)
	identities := make(map[string]identity)
	for _, name := range []string{"plain", "scram256", "scram512", "filed", "served"} {
		a.WaitConsumer(name, "read", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && c.RecordsTotal > 0 })
		identities[name] = identify(t, a.Consumer(name))
	}
	second := l.tokens.Token(t, "reader", time.Hour)
	a.WaitState("inline", "ERROR")
	wantNoSecret(t, a, "-secret", kafkatest.PlainPassword, first[:20])
	for name, right := range map[string]string{"wrong": "first-secret", "forged": second, "stranger": "client-secret"} {
		a.WaitConsumer(name, "report its secret", func(c agenttest.Consumer) bool {
			return c.Status == "ERROR" && strings.Contains(c.Error(), "authenticate to cluster "+name)
		})
		replaceFile(t, l.dir, name, []byte(right+"\n"))
		a.WaitConsumer(name, "read with the right one", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && c.RecordsTotal > 0 })
	}

	// The brokers close no connection because of the new password. The next logins would
	// fail, which are due at the end of a session.
	l.SetPassword(t, "reader", "second-secret")
	for _, name := range []string{"scram256", "scram512", "wrong"} {
		replaceFile(t, l.dir, name, []byte("second-secret\n"))
	}
	replaceFile(t, l.dir, "filed", []byte(second))
	began := time.Now()
	for _, e := range l.entries {
		before := a.Consumer(e.name).RecordsTotal
		a.WaitConsumer(e.name, "read after the ends of sessions", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.RecordsTotal > before && time.Since(began) > 3*sessionLasts
		})
	}
	stopProducing()
	for _, e := range l.entries {
		l.waitCommitted(t, a, e, int64(2*produced()))
		readTrail(t, e.path).wantExact(t, topic, 2, produced())
		if was, ok := identities[e.name]; ok && (e.name == "plain" || e.name == "served") {
			wantSame(t, a, e.name, was)
		}
	}
	wantNoSecret(t, a, "-secret", kafkatest.PlainPassword, first[:20])
	stopAgent(t, a)
	if n := l.issued.Load(); n < 2 || n > 40 {
		t.Errorf("the token server issued %d tokens", n)
	}
}

// TestWrongListenerSettingsAreNamed: for a cluster whose settings belong to another kind
// of listener, the error names the settings to change.
func TestWrongListenerSettingsAreNamed(t *testing.T) {
	t.Parallel()
	l := newLoginScene(t, map[string]string{"listener.name.secure.sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER"})
	topic := l.newTopic(t, "mixed-up", 1)
	replaceFile(t, l.dir, "password", []byte(kafkatest.PlainPassword+"\n"))
	replaceFile(t, l.dir, "token", []byte(l.tokens.Token(t, "reader", -time.Hour)+"\n"))
	login := func(mechanism string) string {
		return fmt.Sprintf(", sasl: {mechanism: %s, username: %s, password_file: %s/password}", mechanism, kafkatest.PlainUser, l.dir)
	}
	encrypted := fmt.Sprintf(", tls: {ca_file: %s/ca.pem}", l.dir)
	token := fmt.Sprintf(", sasl: {mechanism: OAUTHBEARER, oauth: {token_file: %s/token}}", l.dir)
	for _, c := range []struct{ name, addr, settings, want string }{
		{"bare", l.SecureAddrs()[0], "", "cluster bare: reach brokers "},
		{"clear", l.SecureAddrs()[0], login("PLAIN"), " speaks TLS: add tls"},
		{"anonymous", l.SecureAddrs()[0], encrypted, "cluster anonymous: the broker closed the connection; the listener may require sasl: "},
		{"other", l.SecureAddrs()[0], encrypted + login("SCRAM-SHA-512"), "cluster other: the listener does not support sasl.mechanism SCRAM-SHA-512"},
		{"open", l.Addrs()[0], login("PLAIN"), "cluster open: the listener does not use SASL; remove sasl"},
		{"encrypted", l.Addrs()[0], encrypted, "cluster encrypted by TLS: the listener does not seem to use TLS"},
		{"old", l.SecureAddrs()[0], encrypted + token, "cluster old: the token in sasl.oauth.token_file " + l.dir + "/token expired at "},
	} {
		file := filepath.Join(l.dir, c.name+".yaml")
		text := strings.Replace(configText(nil, l.entry(c.name, topic).withCluster(c.name)), "clusters:\n",
			fmt.Sprintf("clusters:\n  %s: {brokers: [%q]%s}\n", c.name, c.addr, c.settings), 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := validateOnline(t, file); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s\nwant %s", c.name, err, out, c.want)
		}
	}
}
