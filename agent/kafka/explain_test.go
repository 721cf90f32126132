package kafka

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/testkit"
	"kcagent/config"
	"kcagent/fetch"
)

// TestErrorsNameTheMissingSetting: the commonest mistake is a listener that requires a
// setting which the file lacks, or the other way round.
func TestErrorsNameTheMissingSetting(t *testing.T) {
	plain := config.Cluster{}
	encrypted := config.Cluster{TLS: &config.TLS{}}
	login := config.Cluster{SASL: &config.SASL{Mechanism: config.ScramSHA512}}
	both := config.Cluster{TLS: &config.TLS{}, SASL: login.SASL}
	const hungUp = "connect to cluster c: the broker closed the connection; the listener may require "
	for _, c := range []struct {
		cluster config.Cluster
		err     error
		want    string
	}{
		{plain, io.EOF, hungUp + "tls or sasl: "},
		{plain, io.ErrUnexpectedEOF, hungUp + "tls or sasl: "},
		{login, io.ErrUnexpectedEOF, hungUp + "tls: "},
		{encrypted, io.EOF, hungUp + "sasl: "},
		{both, io.EOF, ""},
		{plain, &fetch.ConnectionLimitError{Err: io.EOF}, ""},
		{encrypted, &fetch.ConnectionLimitError{Err: &fetch.HandshakeError{Err: io.EOF}}, ""},
		{both, sarama.ErrUnsupportedSASLMechanism, "authenticate to cluster c: the listener does not support sasl.mechanism SCRAM-SHA-512: "},
		{both, sarama.ErrIllegalSASLState, "authenticate to cluster c: the listener does not use SASL; remove sasl, or use the port of another listener: "},
	} {
		spec := config.Consumer{ClusterName: "c", Cluster: c.cluster}
		broken := fmt.Errorf("reach brokers a:1: %w", c.err)
		if got := ExplainFirst(&spec, broken).Error(); got != c.want+broken.Error() {
			t.Errorf("%v is explained by %q\nwant %q", c.err, got, c.want)
		}
		if got := Explain(&spec, broken).Error(); strings.Contains(got, "closed the connection;") {
			t.Errorf("%v of a cluster that has answered is explained by %q", c.err, got)
		}
	}
}

// TestExpiredTokenIsReported: a broker that rejects an expired token does not say why.
func TestExpiredTokenIsReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	spec := config.Consumer{ClusterName: "c", Cluster: config.Cluster{SASL: &config.SASL{
		Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: file},
	}}}
	end := time.Now().Add(-time.Hour)
	said := ": the token in sasl.oauth.token_file " + file + " expired at " + end.UTC().Format(time.RFC3339)
	for text, want := range map[string]string{
		testkit.JWT(end.Unix()):                       said,
		testkit.JWT(time.Now().Add(time.Hour).Unix()): "",
		"opaque": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := Explain(&spec, sarama.ErrSASLAuthenticationFailed).Error()
		if want = "authenticate to cluster c" + want + ": " + sarama.ErrSASLAuthenticationFailed.Error(); got != want {
			t.Errorf("%s is explained by %q\nwant %q", text, got, want)
		}
	}
}
