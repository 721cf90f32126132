package precheck

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/config"
	"kcagent/e2e/certs"
)

// brokerWith starts a broker that presents a certificate and, if clients is not nil, requires
// one that is signed by clients. With neither it does not use TLS.
func brokerWith(t *testing.T, shows *certs.Pair, clients *certs.Authority) string {
	t.Helper()
	if shows == nil {
		return brokerBy(t, nil)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{shows.TLS(t)}}
	if clients != nil {
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}
	return brokerBy(t, conf)
}

// brokerBy starts a broker that uses TLS with conf, or no TLS if conf is nil.
func brokerBy(t *testing.T, conf *tls.Config) string {
	t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "t")}
	if conf != nil {
		opts = append(opts, kfake.TLS(conf))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0]
}

// TestTLSErrorsNameTheSetting: each error says what is wrong, and in which file or setting.
func TestTLSErrorsNameTheSetting(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := certs.NewAuthority(t, "ours"), certs.NewAuthority(t, "theirs")
	past := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	elsewhere := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"kafka.example.com"} }
	good, late, moved := ours.Issue(t, "broker"), ours.IssueWith(t, "late-broker", past), ours.IssueWith(t, "broker", elsewhere)
	forClients := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	useless := ours.IssueWith(t, "broker", forClients)
	nameless := ours.IssueWith(t, "localhost", func(c *x509.Certificate) { c.IPAddresses = nil })
	client, oldClient := ours.Issue(t, "client"), ours.IssueWith(t, "client", past)
	for name, text := range map[string][]byte{
		"ca.pem": ours.PEM, "other-ca.pem": theirs.PEM, "empty.pem": []byte("nothing\n"), "cert.pem": client.Cert, "key.pem": client.Key,
		"other-key.pem": oldClient.Key, "old-cert.pem": oldClient.Cert,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(text string) string { return strings.ReplaceAll(text, "DIR", dir) }
	guarded := brokerWith(t, &good, ours)
	ancient := &tls.Config{Certificates: []tls.Certificate{good.TLS(t)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	byRSA := &tls.Config{
		Certificates: []tls.Certificate{good.TLS(t)}, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, // its certificate is for ECDSA
	}
	for _, c := range []struct{ name, broker, cluster, want string }{
		{"good", guarded, "tls: {ca_file: DIR/ca.pem, cert_file: DIR/cert.pem, key_file: DIR/key.pem}", ""},
		{"named", brokerWith(t, &moved, nil), "tls: {ca_file: DIR/ca.pem, server_name: kafka.example.com}", ""},
		{"expired", brokerWith(t, &late, nil), "tls: {ca_file: DIR/ca.pem}", "cluster c by TLS: the broker's certificate (CN=late-broker) is only valid from "},
		{"name", brokerWith(t, &moved, nil), "tls: {ca_file: DIR/ca.pem}", "is for [kafka.example.com], not for 127.0.0.1; set tls.server_name"},
		{
			"nameless", brokerWith(t, &nameless, nil), "tls: {ca_file: DIR/ca.pem}",
			"the broker's certificate has no subject alternative names; issue one that has 127.0.0.1: ",
		},
		{"authority", guarded, "tls: {ca_file: DIR/other-ca.pem}", "is not signed by a certificate in tls.ca_file DIR/other-ca.pem"},
		{"usage", brokerWith(t, &useless, nil), "tls: {ca_file: DIR/ca.pem}", "cluster c by TLS: the broker's certificate is invalid"},
		{"roots", guarded, "tls: {}", "is not signed by a root certificate of the system; set tls.ca_file to the certificate of its authority"},
		{
			"mismatch", guarded, "tls: {cert_file: DIR/cert.pem, key_file: DIR/other-key.pem}",
			"load tls.cert_file DIR/cert.pem with tls.key_file DIR/other-key.pem: tls: private key does not match public key",
		},
		{"no PEM", guarded, "tls: {ca_file: DIR/empty.pem}", "read tls.ca_file: parse DIR/empty.pem: no PEM certificate found"},
		{"no file", guarded, "tls: {ca_file: DIR/none.pem}", "read tls.ca_file: open DIR/none.pem: no such file"},
		{"nothing shown", guarded, "tls: {ca_file: DIR/ca.pem}", "without a client certificate; if it requires one, set tls.cert_file and tls.key_file"},
		{"old client", guarded, "tls: {ca_file: DIR/ca.pem, cert_file: DIR/old-cert.pem, key_file: DIR/other-key.pem}", "with tls.cert_file DIR/old-cert.pem, which expired at "},
		{"TLS 1.1", brokerBy(t, ancient), "tls: {ca_file: DIR/ca.pem}", "cluster c by TLS: the broker does not support TLS 1.2 or newer: "},
		{
			"cipher", brokerBy(t, byRSA), "tls: {ca_file: DIR/ca.pem}",
			"cluster c by TLS: the broker rejected the TLS handshake without a client certificate; if it requires one, set tls.cert_file and tls.key_file; or there is no cipher that both sides support: ",
		},
		{"no TLS there", brokerWith(t, nil, nil), "tls: {ca_file: DIR/ca.pem}", "cluster c by TLS: the broker did not respond to the TLS handshake: "}, // it waits for the rest of a long request
		{"TLS there", guarded, "kafka_version: 3.6.0", "cluster c: the broker closed the connection; the listener may require tls or sasl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf("clusters: {c: {brokers: [%q], %s}}\nconsumers:\n- {name: c, cluster: c, topics: [t], sink: {stdout: {}}}\n", c.broker, in(c.cluster))
			conf, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			found := Probe(t.Context(), conf.Consumers)
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found %v", found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0].Err.Error(), in(c.want))):
				t.Errorf("found %v\nwant %s", found, in(c.want))
			}
		})
	}
}

// TestClosedConnectionNamesTheMissingSetting: Kafka closes a connection at once if the
// client uses another security protocol; an EOF alone would not help.
func TestClosedConnectionNamesTheMissingSetting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024))
			_ = conn.Close()
		}
	}()
	for cluster, want := range map[string]string{
		"":          "the broker closed the connection; the listener may require tls or sasl",
		"tls: {}, ": "the listener does not seem to use TLS",
	} {
		text := fmt.Sprintf("clusters: {c: {%sbrokers: [%q]}}\nconsumers:\n- {name: c, cluster: c, topics: [t], sink: {stdout: {}}}\n", cluster, l.Addr())
		conf, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		found := Probe(t.Context(), conf.Consumers)
		if len(found) != 1 || !strings.Contains(found[0].Err.Error(), want) {
			t.Errorf("found %v\nwant %s", found, want)
		}
	}
}
