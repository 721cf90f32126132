package agent

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/precheck"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/e2e/certs"
	"kcagent/retry"
)

// certificate creates a server's certificate, and the file with its authority for clients.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	authority := certs.NewAuthority(t, "test")
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, authority.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return authority.Issue(t, "server").TLS(t), path
}

// securedCluster starts a cluster with TLS and SASL, whose user u has the password right.
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

// secured returns a rig whose consumer uses TLS and SASL.
func secured(t *testing.T, sasl string, files *filewatch.Files) (r *rig, apply func()) {
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

func TestPlainLoginOverTLS(t *testing.T) {
	r, apply := secured(t, "password: right", nil)
	apply()
	r.wantStatus(consumer.Running)
}

// TestCorrectedPasswordFileEndsTheError: files with credentials are read again for each
// retry, so a corrected one needs no restart.
func TestCorrectedPasswordFileEndsTheError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	r, apply := secured(t, fmt.Sprintf("password_file: %q", file), nil)
	apply()
	failing := r.wantStatus(consumer.Failing)
	if e := *failing.LastError; !strings.Contains(e, file) {
		t.Errorf("without the file the error is %q", e)
	}
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong-password")
	// This is the response of Kafka; the embedded broker only closes the connection.
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
			t.Errorf("the error has the password: %s", *e)
		}
		return strings.Contains(*e, "authenticate to cluster main"), *e
	})
	write("right")
	r.wantStatus(consumer.Running)
}

func TestUntrustedCertificateIsReported(t *testing.T) {
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
	failing := r.wantStatus(consumer.Failing)
	if e := *failing.LastError; !strings.Contains(e, "certificate") {
		t.Errorf("last error is %q", e)
	}
}

func TestProbeNamesConsumerAndField(t *testing.T) {
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
	for _, f := range precheck.Probe(t.Context(), c.Consumers) {
		got = append(got, f.Consumer+"."+f.Field)
	}
	if want := "topicless.topics sinkless.sink dead.cluster patternless.topics_regex stranger.cluster"; strings.Join(got, " ") != want {
		t.Errorf("found %v, want %s", got, want)
	}
}

func TestScramLoginUsesThePasswordUnchanged(t *testing.T) {
	const right = "r\u00a0i\u00aag\u0007h\ufffet" // SASLprep would reject it, or change it
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
			r.wantStatus(consumer.Failing)
			apply(right)
			r.wantStatus(consumer.Running)
		})
	}
}

// TestRejectedLoginIsNotRetriedAtOnce: a consumer whose login is rejected waits for seconds
// before the next login, because fewer logins than its usual retries would lock an account.
func TestRejectedLoginIsNotRetriedAtOnce(t *testing.T) {
	var seldom retry.Backoff
	seldom.Slow()
	for range 6 {
		if d := seldom.Next(); d < 4*time.Second {
			t.Errorf("the wait is %v", d)
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
	r.wantStatus(consumer.Failing)
	for range 100 { // a second, in which there would be three retries otherwise
		if n := logins.Load(); n > 1 {
			t.Fatalf("%d logins were sent", n)
		}
		<-time.After(10 * time.Millisecond)
	}
}
