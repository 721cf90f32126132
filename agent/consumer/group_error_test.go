package consumer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"kcagent/agent/kafka"
	"kcagent/agent/stats"
	"kcagent/agent/testkit"
	"kcagent/config"
	"kcagent/fetch"
)

// TestHintsOfOutages: of a cluster that has answered before, a connection that
// breaks or is not answered says nothing about the settings.
func TestHintsOfOutages(t *testing.T) {
	spec := config.Consumer{Name: "c", ClusterName: "c", Group: "g", Cluster: config.Cluster{TLS: &config.TLS{}}}
	handshake := func(err error) error { return fmt.Errorf("connect to a:1: %w", &fetch.HandshakeError{Err: err}) }
	const noTLS, noAnswer = "does not seem to use TLS", "cluster c by TLS: the broker did not respond to the TLS handshake"
	for _, c := range []struct {
		err         error
		first, then string
	}{
		{handshake(io.EOF), noTLS, ""},
		{handshake(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), noTLS, ""},
		{handshake(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), noTLS, noTLS},
		{handshake(context.DeadlineExceeded), noAnswer, noAnswer},
		{handshake(errors.New("tls: something else")), "", ""},
		{handshake(testkit.TLS11Error(t)), kafka.UnsupportedTLSVersion, kafka.UnsupportedTLSVersion},
	} {
		m := &member{consumer: &Consumer{stats: stats.New()}, spec: &spec}
		for _, want := range []string{c.first, c.then} {
			got := m.explain(c.err).Error()
			if hinted := strings.Contains(got, "by TLS: "); hinted != (want != "") || !strings.Contains(got, want) {
				t.Errorf("%v is explained by %q, want %q", c.err, got, want)
			}
			m.consumer.stats.Rebalances.Add(1)
		}
	}
}
