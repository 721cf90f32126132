package agent

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/config"
	"kcagent/e2e/certs"
)

// certificate makes a server's certificate, and the file that a client trusts it
// by.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	authority := certs.NewAuthority(t, "test")
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, authority.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return authority.Issue(t, "server").TLS(t), path
}

// securedCluster speaks TLS and SASL, with the user u and the password right.
func securedCluster(t *testing.T) (cluster *kfake.Cluster, ca string) {
	t.Helper()
	cert, ca := certificate(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}),
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, ca
}

// secured is a rig whose consumer speaks TLS and SASL.
func secured(t *testing.T, sasl string, files *config.Files) (r *rig, apply func()) {
	t.Helper()
	cluster, ca := securedCluster(t)
	r = &rig{T: t, cluster: cluster, memory: &memory{}, updates: make(chan config.Update), files: files}
	r.start()
	return r, func() {
		t.Helper()
		text := fmt.Sprintf(`
clusters:
  main:
    brokers: ["%s"]
    tls: {ca_file: "%s"}
    sasl: {mechanism: PLAIN, username: u, %s}
consumers:
- {name: c, cluster: main, topics: [t], sink: {stdout: {}}}`, cluster.ListenAddrs()[0], ca, sasl)
		c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		r.updates <- config.Update{Config: c}
	}
}

func TestPlainOverTLS(t *testing.T) {
	r, apply := secured(t, "password: right", nil)
	apply()
	r.wantStatus(Running)
}

// TestWrongPasswordHealsByACorrectedFile: credentials are read again for each
// try, so nobody has to restart anything.
func TestWrongPasswordHealsByACorrectedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	r, apply := secured(t, fmt.Sprintf("password_file: %q", file), nil)
	apply()
	r.wantStatus(Failing)
	if e := *r.consumer().LastError; !strings.Contains(e, file) {
		t.Errorf("without the file the error is %q", e)
	}
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong-password")
	// What Kafka answers; the embedded broker only hangs up.
	r.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if strings.HasSuffix(string(k.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "\x00right") {
			return nil, nil, false
		}
		resp := k.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	r.eventually("an authentication error", func() (bool, any) {
		e := r.consumer().LastError
		if e == nil {
			return false, nil
		}
		if strings.Contains(*e, "wrong-password") {
			t.Errorf("the password shows: %s", *e)
		}
		return strings.Contains(*e, "authenticate to cluster main"), *e
	})
	write("right")
	r.wantStatus(Running)
}

func TestUntrustedCertificateIsNamed(t *testing.T) {
	r, _ := secured(t, "password: right", nil)
	text := fmt.Sprintf(`
clusters: {main: {brokers: ["%s"], tls: {}}}
consumers:
- {name: c, cluster: main, topics: [t], sink: {stdout: {}}}`, r.cluster.ListenAddrs()[0])
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	r.wantStatus(Failing)
	if e := *r.consumer().LastError; !strings.Contains(e, "certificate") {
		t.Errorf("last error is %q", e)
	}
}

func TestProbeFindsWhatIsWrong(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	guarded, ca := securedCluster(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
clusters:
  main: {brokers: ["%s"]}
  dead: {brokers: ["127.0.0.1:1"]}
  guarded: {brokers: ["%s"], tls: {ca_file: "%s"}, sasl: {mechanism: PLAIN, username: u, password: wrong}}
defaults: {cluster: main, topics: [t], sink: {stdout: {}}}
consumers:
- {name: good}
- {name: topicless, topics: [t, missing]}
- {name: sinkless, sink: {file: {path: "%s/below"}}}
- {name: dead, cluster: dead}
- {name: patternless, topics_regex: ^x}
- {name: patterned, topics_regex: ^t}
- {name: stranger, cluster: guarded}`, cluster.ListenAddrs()[0], guarded.ListenAddrs()[0], ca, file)
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, f := range Probe(t.Context(), c.Consumers) {
		got = append(got, f.Consumer+"."+f.Field)
	}
	if want := "topicless.topics sinkless.sink dead.cluster patternless.topics_regex stranger.cluster"; strings.Join(got, " ") != want {
		t.Errorf("found %v, want %s", got, want)
	}
}

func TestScram(t *testing.T) {
	const right = "r\u00a0i\u00aag\u0007h\ufffet" // the RFC would have it refused, or changed
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser(mechanism, "u", right))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			r := &rig{T: t, cluster: cluster, memory: &memory{}, updates: make(chan config.Update)}
			r.start()
			apply := func(password string) {
				t.Helper()
				text := fmt.Sprintf(`
clusters: {main: {brokers: ["%s"], sasl: {mechanism: %s, username: u, password: %s}}}
consumers:
- {name: c, cluster: main, topics: [t], sink: {stdout: {}}}`, cluster.ListenAddrs()[0], mechanism, strconv.QuoteToASCII(password))
				c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
				if len(problems) > 0 {
					t.Fatal(problems)
				}
				r.updates <- config.Update{Config: c}
			}
			apply("wrong")
			r.wantStatus(Failing)
			apply(right)
			r.wantStatus(Running)
		})
	}
}

// TestRefusedCredentialsRest: a consumer that a cluster refuses tries again, but
// seldom: accounts are locked for less.
func TestRefusedCredentialsRest(t *testing.T) {
	var seldom backoff
	seldom.slow()
	for range 6 {
		if d := seldom.next(); d < 4*time.Second {
			t.Errorf("it waits for %v", d)
		}
	}
	r, apply := secured(t, "password: wrong", nil)
	var logins atomic.Int32
	r.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		logins.Add(1)
		resp := k.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	apply()
	r.wantStatus(Failing)
	for range 100 { // a second, in which it would have tried three times
		if n := logins.Load(); n > 1 {
			t.Fatalf("%d logins were tried", n)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestSecretFiles: what editors add is no part of a secret, spaces may be one of
// a password, a link is followed as Kubernetes needs it, and a pipe, whose writer
// may never come, is refused.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "secret"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(file, []byte("\ufeff s \r\n"), 0o600), os.Symlink(file, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	password := func(path string) config.Cluster {
		return config.Cluster{SASL: &config.SASL{Mechanism: config.Plain, Username: "u", PasswordFile: path}}
	}
	if k, err := readCredentials(password(link)); err != nil || k.password != " s " {
		t.Errorf("the password is %+v, %v", k, err)
	}
	k, err := readCredentials(config.Cluster{SASL: &config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: link}}})
	if err != nil || k.tokens.now.AccessToken != "s" {
		t.Errorf("the token is %+v, %v", k, err)
	}
	for want, cluster := range map[string]config.Cluster{
		"read sasl.password_file: open " + pipe + ": not a regular file": password(pipe),
		"read tls.ca_file: open " + pipe + ": not a regular file":        {TLS: &config.TLS{CAFile: pipe}},
	} {
		if _, err := readCredentials(cluster); err == nil || err.Error() != want {
			t.Errorf("a pipe is %v, want %s", err, want)
		}
	}
}

// TestCertificateFiles: what stands before the first block is no matter, but a key
// that wants a passphrase cannot be used, however it was encrypted.
func TestCertificateFiles(t *testing.T) {
	dir, authority := t.TempDir(), certs.NewAuthority(t, "authority")
	client := authority.Issue(t, "client")
	in := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	marked := func(text []byte) []byte { return append([]byte("\ufeff"), text...) }
	block := func(kind string, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: []byte("no telling")})
	}
	good := config.TLS{CAFile: in("ca", marked(authority.PEM)), CertFile: in("cert", marked(client.Cert)), KeyFile: in("key", marked(client.Key))}
	if _, err := tlsConfig(good); err != nil {
		t.Errorf("with marks: %v", err)
	}
	for _, key := range [][]byte{
		block("ENCRYPTED PRIVATE KEY", nil),
		block("RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}),
	} {
		locked := good
		locked.KeyFile = in("locked", key)
		want := "with tls.key_file " + locked.KeyFile + ": private key is encrypted; provide an unencrypted key, such as the output of `openssl pkey -in " + locked.KeyFile + "`"
		if _, err := tlsConfig(locked); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("with %s: %v", key, err)
		}
	}
}

// TestEmptySecretFiles: nothing but a newline is no secret, and is not shown to a
// broker as one.
func TestEmptySecretFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for field, sasl := range map[string]config.SASL{
		"sasl.password_file":            {Mechanism: config.ScramSHA512, Username: "u", PasswordFile: file},
		"sasl.oauth.token_file":         {Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: file}},
		"sasl.oauth.client_secret_file": {Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenURL: "http://a", ClientSecretFile: file}},
	} {
		for _, text := range []string{"", "\n", "\r\n\n"} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			want := "read " + field + " " + file + ": file is empty"
			if _, err := readCredentials(config.Cluster{SASL: &sasl}); err == nil || err.Error() != want {
				t.Errorf("%q is %v, want %s", text, err, want)
			}
		}
	}
}
