package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/retry"
)

// explain puts before an error of the way to a cluster what it means, and which
// setting or file it is about: the libraries know neither. Other errors are
// returned as they are.
func explain(spec *config.Consumer, err error) error { return explained(spec, err, false) }

// explainFirst is explain for a cluster that has not answered before. Of one
// that has, a connection that breaks says nothing about the settings.
func explainFirst(spec *config.Consumer, err error) error { return explained(spec, err, true) }

func explained(spec *config.Consumer, err error, first bool) error {
	if about := meaning(spec, err, first); about != "" {
		return fmt.Errorf("%s: %w", about, err)
	}
	return err
}

func meaning(spec *config.Consumer, err error, first bool) string {
	name := clusterName(spec)
	if failed, about := ofLogin(spec.Cluster, err); failed {
		return "authenticate to " + name + about
	}
	if errors.As(err, new(*fetch.FullError)) {
		return "" // the broker answers on other connections, so the settings are not the cause
	}
	if errors.As(err, new(fetch.StrangerError)) && spec.ClusterName != "" {
		return name // else the address says it all
	}
	if spec.Cluster.TLS != nil {
		if about := ofTLS(spec.Cluster, err, first); about != "" {
			return fmt.Sprintf("connect to %s by TLS: %s", name, about)
		}
	}
	if wants := missing(spec.Cluster); first && hungUp(err) && wants != "" {
		return fmt.Sprintf("connect to %s: the broker hung up, as one does that wants %s", name, wants)
	}
	return ""
}

// missing is what a listener may want that the configuration lacks.
func missing(cluster config.Cluster) string {
	switch {
	case cluster.TLS == nil && cluster.SASL == nil:
		return "tls or sasl"
	case cluster.TLS == nil:
		return "tls"
	case cluster.SASL == nil:
		return "sasl"
	}
	return ""
}

// ofLogin reports whether err is that of a login, and says what it means, if
// that is known.
func ofLogin(cluster config.Cluster, err error) (failed bool, about string) {
	switch a := cluster.SASL; {
	case a == nil:
		return loginRejected(err), ""
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return true, fmt.Sprintf(": that port does not offer sasl.mechanism %s", a.Mechanism)
	case errors.Is(err, sarama.ErrIllegalSASLState):
		return true, ": that port wants no login: remove sasl, or name one that does"
	case loginRejected(err) && a.OAuth != nil && a.OAuth.TokenFile != "":
		return true, ended(a.OAuth.TokenFile)
	}
	return loginRejected(err), ""
}

// ended says so of a token in a file.
func ended(file string) string {
	text, err := readSecret("sasl.oauth.token_file", file)
	if end := endOf(text); err == nil && !end.IsZero() && time.Now().After(end) {
		return fmt.Sprintf(": the token in sasl.oauth.token_file %s ended at %s", file, end.UTC().Format(time.RFC3339))
	}
	return ""
}

// refused reports that the cluster did not accept the credentials, or that there
// were none to show.
func loginRejected(err error) bool {
	return errors.Is(err, sarama.ErrSASLAuthenticationFailed) || errors.As(err, new(*tokenError))
}

// ofTLS says what an error of a handshake means; "" if it is none.
func ofTLS(cluster config.Cluster, err error, first bool) string {
	trusted := "the system's roots: name its authority in tls.ca_file"
	if f := cluster.TLS.CAFile; f != "" {
		trusted = "tls.ca_file " + f
	}
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert *net.OpError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Sprintf("the broker's certificate (%s) is good from %s to %s only", invalid.Cert.Subject,
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &host):
		names := slices.Clone(host.Certificate.DNSNames)
		for _, ip := range host.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return fmt.Sprintf("the broker's certificate names no host: it needs one with %s among its subject alternative names", host.Host)
		}
		return fmt.Sprintf("the broker's certificate is for [%s], not for %s: set tls.server_name to one of them", strings.Join(names, " "), host.Host)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "the broker's certificate is not signed by " + trusted
	case errors.As(err, &alert) && alert.Op == "remote error":
		return ofAlert(cluster, alert.Err)
	case strings.Contains(err.Error(), "server selected unsupported protocol version"):
		return noVersion
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "the broker's certificate cannot be used"
	case inHandshake(err) && retry.TimedOut(err):
		return "no answer to the TLS handshake"
	case errors.As(err, new(tls.RecordHeaderError)), first && inHandshake(err) && hungUp(err):
		return "that port does not seem to speak TLS: if it does not, name another one or remove tls"
	}
	return ""
}

func inHandshake(err error) bool { return errors.As(err, new(*fetch.HandshakeError)) }

// hungUp reports that the broker ended the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

const noVersion = "the broker offers no TLS 1.2 or newer"

// Alerts of RFC 8446, 6.2.
const (
	alertHandshakeFailure tls.AlertError = 40
	alertProtocolVersion  tls.AlertError = 70
)

// ofAlert says why the broker may have refused a handshake. crypto/tls keeps the
// type of its alerts to itself, but not their names.
func ofAlert(cluster config.Cluster, alert error) string {
	switch alert.Error() {
	case alertProtocolVersion.Error():
		return noVersion
	case alertHandshakeFailure.Error():
		return "the broker found no cipher or type of certificate that both have, or wants another certificate: it was shown " + shown(cluster)
	}
	return "the broker refused the handshake, in which it was shown " + shown(cluster)
}

// shown says which certificate the broker was shown.
func shown(cluster config.Cluster) string {
	path := cluster.TLS.CertFile
	if path == "" {
		return "no certificate: if it wants one, name tls.cert_file and tls.key_file"
	}
	text := "tls.cert_file " + path
	creds, err := readCredentials(cluster)
	if err != nil || len(creds.tls.Certificates) == 0 {
		return text
	}
	if leaf := creds.tls.Certificates[0].Leaf; leaf != nil && time.Now().After(leaf.NotAfter) {
		return text + ", which expired at " + leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	return text + ": do its brokers trust who signed that?"
}

func clusterName(spec *config.Consumer) string {
	if spec.ClusterName != "" {
		return "cluster " + spec.ClusterName
	}
	return strings.Join(spec.Cluster.Brokers, ",")
}
