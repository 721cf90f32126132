package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/e2e/certs"
)

// A tlsRig has a cluster that requires a client certificate, and records which ones it
// accepted.
type tlsRig struct {
	*rig
	authority *certs.Authority
	dir       string

	mu   sync.Mutex
	seen map[string]int // connections by the name in the client's certificate
}

func newTLSRig(t *testing.T) *tlsRig {
	t.Helper()
	g := &tlsRig{authority: certs.NewAuthority(t, "authority"), dir: t.TempDir(), seen: make(map[string]int)}
	server := &tls.Config{
		Certificates: []tls.Certificate{g.authority.Issue(t, "server").TLS(t)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: g.authority.Pool(), MaxVersion: tls.VersionTLS12, // in TLS 1.3 the client would learn of a rejection only later
		VerifyPeerCertificate: func(_ [][]byte, chains [][]*x509.Certificate) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.seen[chains[0][0].Subject.CommonName]++
			return nil
		},
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.TLS(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	own := &tls.Config{RootCAs: g.authority.Pool(), Certificates: []tls.Certificate{g.authority.Issue(t, "producer").TLS(t)}}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DialTLSConfig(own))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	g.rig = &rig{T: t, cluster: cluster, client: client, memory: &memory{}, updates: make(chan config.Update)}
	g.put("ca", g.authority.PEM)
	g.issue("first")
	g.rig.files = watchFiles(t)
	g.start()
	return g
}

// watchFiles watches files as the run command does.
func watchFiles(t *testing.T) *filewatch.Files {
	files := filewatch.NewFiles(filewatch.Options{Events: true})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { files.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return files
}

// put replaces a file atomically.
func (g *tlsRig) put(name string, text []byte) {
	g.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		g.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		g.Fatal(err)
	}
}

// issue replaces the files by a new client certificate with this name.
func (g *tlsRig) issue(name string) {
	g.Helper()
	pair := g.authority.Issue(g.T, name)
	g.put("cert", pair.Cert)
	g.put("key", pair.Key)
}

func (g *tlsRig) accepted() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.seen)
}

func (g *tlsRig) edit() { g.Helper(); g.editTopics("t") }

func (g *tlsRig) editTopics(topics string) {
	g.Helper()
	text := fmt.Sprintf(`
clusters:
  main: {brokers: ["%s"], tls: {ca_file: %[2]s/ca, cert_file: %[2]s/cert, key_file: %[2]s/key}}
consumers:
- {name: c, cluster: main, topics: [%[3]s], flush: {interval: 20ms}, sink: {stdout: {}}}`, g.cluster.ListenAddrs()[0], g.dir, topics)
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		g.Fatal(problems)
	}
	g.updates <- config.Update{Config: c}
}

func TestRotatedCertificateIsUsed(t *testing.T) {
	g := newTLSRig(t)
	g.edit()
	g.produce(0, "a")
	g.wantRecords("t/0@0=a")
	g.wantStatus(consumer.Running)
	was, own := g.consumer(), g.connections()

	g.issue("second")
	g.eventually("connections with the second certificate", func() (bool, any) {
		g.produce(0, "b") // the commit uses the connection to the coordinator
		now := g.connections()
		maps.DeleteFunc(now, func(addr string, _ bool) bool { return own[addr] })
		seen := g.accepted() // the pre-check makes two
		return len(now) == 1 && seen["second"] >= 4, seen
	})
	g.wantStatus(consumer.Running)
	now := g.consumer()
	if now.ID != was.ID || !slices.Equal(now.MemberIDs, was.MemberIDs) || now.Generation != was.Generation || now.RestartsTotal != 0 {
		t.Errorf("after the rotation the consumer is %+v, was %+v", now, was)
	}
	if now.PendingChange != nil {
		t.Errorf("pending is %+v", now.PendingChange)
	}
}

func TestInvalidCertificateKeepsTheConnections(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t)
	g.edit()
	g.produce(0, "a")
	g.wantRecords("t/0@0=a")
	g.wantStatus(consumer.Running)
	was := g.consumer()
	pending := func(why string, fields ...string) {
		t.Helper()
		g.eventually(why, func() (bool, any) {
			p := g.consumer().PendingChange
			return p != nil && p.Action == plan.Reconnect && slices.Equal(p.Fields, fields) && p.Error != nil && strings.Contains(*p.Error, why), p
		})
	}

	old, err := os.ReadFile(filepath.Join(g.dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	g.put("key", []byte("rubbish"))
	pending(filepath.Join(g.dir, "key"), "tls.key_file")
	g.put("key", old)
	g.eventually("the former key again", func() (bool, any) { p := g.consumer().PendingChange; return p == nil, p })

	stranger := certs.NewAuthority(t, "stranger").Issue(t, "stranger")
	g.put("cert", stranger.Cert)
	g.put("key", stranger.Key)
	pending("tls", "tls.cert_file", "tls.key_file")
	g.produce(0, "b", "c")
	g.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c")
	now := g.consumer()
	if now.Status != consumer.Running || now.ID != was.ID || !slices.Equal(now.MemberIDs, was.MemberIDs) || now.RestartsTotal != 0 {
		t.Errorf("with an invalid certificate the consumer is %+v, was %+v", now, was)
	}
	g.issue("third")
	g.eventually("connections with the third certificate", func() (bool, any) {
		seen := g.accepted()
		return seen["third"] >= 4 && g.consumer().PendingChange == nil, seen
	})
	if g.accepted()["stranger"] > 0 {
		t.Error("the cluster accepted the certificate of another authority")
	}
}

func TestInvalidPasswordKeepsTheConnections(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("right")
	r, apply := secured(t, fmt.Sprintf("password_file: %q", file), watchFiles(t))
	apply()
	r.wantStatus(consumer.Running)
	was := r.consumer()
	write("mistyped")
	r.eventually("a failed pre-check", func() (bool, any) {
		p := r.consumer().PendingChange
		if p != nil && p.Error != nil && strings.Contains(*p.Error, "mistyped") {
			t.Errorf("the password shows: %s", *p.Error)
		}
		return p != nil && p.Error != nil && slices.Equal(p.Fields, []string{"sasl.password_file"}) && p.Tries > 2, p
	})
	write("right")
	r.eventually("the former password again", func() (bool, any) { p := r.consumer().PendingChange; return p == nil, p })
	if now := r.consumer(); now.Status != consumer.Running || now.ID != was.ID || !slices.Equal(now.MemberIDs, was.MemberIDs) || now.RestartsTotal > 0 {
		t.Errorf("it is %+v, was %+v", now, was)
	}
}

// TestCorrectedFileEndsTheError: a consumer that fails because of a file retries as soon as
// the file has changed.
func TestCorrectedFileEndsTheError(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t)
	g.put("key", []byte("rubbish"))
	g.edit()
	failing := g.wantStatus(consumer.Failing)
	if e := *failing.LastError; !strings.Contains(e, "tls.key_file "+filepath.Join(g.dir, "key")) {
		t.Errorf("the error is %q", e)
	}
	g.eventually("long waits", func() (bool, any) { c := g.consumer(); return c.RestartsTotal > 4, c })
	began := time.Now()
	g.issue("second")
	g.wantStatus(consumer.Running)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestRotationDoesNotWaitForATopic: a missing topic does not keep a consumer from using new
// credentials.
func TestRotationDoesNotWaitForATopic(t *testing.T) {
	g := newTLSRig(t)
	g.editTopics("t, missing")
	g.wantStatus(consumer.Failing)
	g.issue("second")
	g.eventually("connections with the second certificate", func() (bool, any) {
		seen, c := g.accepted(), g.consumer()
		return seen["second"] > 2 && c.PendingChange == nil, c // the pre-check made two
	})
}
