package kafka

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

	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/retry"
)

// Explain prefixes an error of a connection to a cluster with its meaning and the setting or
// file that causes it, which the libraries do not know. Other errors are returned as they are.
func Explain(spec *config.Consumer, err error) error { return explainWith(spec, err, false) }

// ExplainFirst is [Explain] for a cluster that has not answered before. If a cluster has
// answered, a connection that breaks does not mean that the settings are wrong.
func ExplainFirst(spec *config.Consumer, err error) error { return explainWith(spec, err, true) }

func explainWith(spec *config.Consumer, err error, first bool) error {
	if meaning := meaningOf(spec, err, first); meaning != "" {
		return fmt.Errorf("%s: %w", meaning, err)
	}
	return err
}

func meaningOf(spec *config.Consumer, err error, first bool) string {
	name := ClusterName(spec)
	if rejected, meaning := meaningOfLogin(spec.Cluster, err); rejected {
		return "authenticate to " + name + meaning
	}
	if errors.As(err, new(*fetch.ConnectionLimitError)) {
		return "" // the broker answers on other connections, so the settings are not the cause
	}
	if errors.As(err, new(fetch.NotKafkaError)) && spec.ClusterName != "" {
		return name // the error has the address, but not the name
	}
	if spec.Cluster.TLS != nil {
		if meaning := meaningOfTLS(spec.Cluster, err, first); meaning != "" {
			return fmt.Sprintf("connect to %s by TLS: %s", name, meaning)
		}
	}
	if missing := missingSettings(spec.Cluster); first && closedByBroker(err) && missing != "" {
		return fmt.Sprintf("connect to %s: the broker closed the connection; the listener may require %s", name, missing)
	}
	return ""
}

// missingSettings names the settings that a listener may require and the cluster lacks.
func missingSettings(cluster config.Cluster) string {
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

// meaningOfLogin reports whether err is that of a login, and what it means, if that is known.
func meaningOfLogin(cluster config.Cluster, err error) (rejected bool, meaning string) {
	switch a := cluster.SASL; {
	case a == nil:
		return login.Rejected(err), ""
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return true, fmt.Sprintf(": the listener does not support sasl.mechanism %s", a.Mechanism)
	case errors.Is(err, sarama.ErrIllegalSASLState):
		return true, ": the listener does not use SASL; remove sasl, or use the port of another listener"
	case login.Rejected(err) && a.OAuth != nil && a.OAuth.TokenFile != "":
		return true, expiredToken(a.OAuth.TokenFile)
	}
	return login.Rejected(err), ""
}

// expiredToken returns the meaning if the token in a file has expired; else "".
func expiredToken(file string) string {
	text, err := login.ReadSecret("sasl.oauth.token_file", file)
	if expiry := login.ExpiryOf(text); err == nil && !expiry.IsZero() && time.Now().After(expiry) {
		return fmt.Sprintf(": the token in sasl.oauth.token_file %s expired at %s", file, expiry.UTC().Format(time.RFC3339))
	}
	return ""
}

// meaningOfTLS returns what an error of a handshake means; "" if it is none.
func meaningOfTLS(cluster config.Cluster, err error, first bool) string {
	roots := "a root certificate of the system; set tls.ca_file to the certificate of its authority"
	if f := cluster.TLS.CAFile; f != "" {
		roots = "a certificate in tls.ca_file " + f
	}
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert *net.OpError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Sprintf("the broker's certificate (%s) is only valid from %s to %s", invalid.Cert.Subject,
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &host):
		names := slices.Clone(host.Certificate.DNSNames)
		for _, ip := range host.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return fmt.Sprintf("the broker's certificate has no subject alternative names; issue one that has %s", host.Host)
		}
		return fmt.Sprintf("the broker's certificate is for [%s], not for %s; set tls.server_name to one of these names", strings.Join(names, " "), host.Host)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "the broker's certificate is not signed by " + roots
	case errors.As(err, &alert) && alert.Op == "remote error":
		return meaningOfAlert(cluster, alert.Err)
	case strings.Contains(err.Error(), "server selected unsupported protocol version"):
		return UnsupportedTLSVersion
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "the broker's certificate is invalid"
	case inHandshake(err) && retry.TimedOut(err):
		return "the broker did not respond to the TLS handshake"
	case errors.As(err, new(tls.RecordHeaderError)), first && inHandshake(err) && closedByBroker(err):
		return "the listener does not seem to use TLS; use the port of a TLS listener, or remove tls"
	}
	return ""
}

func inHandshake(err error) bool { return errors.As(err, new(*fetch.HandshakeError)) }

// closedByBroker reports whether the broker closed the connection.
func closedByBroker(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// UnsupportedTLSVersion is the meaning of a TLS version that only one side supports.
const UnsupportedTLSVersion = "the broker does not support TLS 1.2 or newer"

// Alerts of RFC 8446, 6.2.
const (
	alertHandshakeFailure tls.AlertError = 40
	alertProtocolVersion  tls.AlertError = 70
)

// meaningOfAlert returns why the broker may have rejected a handshake. crypto/tls does not
// export the type of its alerts, so their texts are compared.
func meaningOfAlert(cluster config.Cluster, alert error) string {
	rejected := "the broker rejected the TLS handshake " + clientCertificate(cluster)
	switch alert.Error() {
	case alertProtocolVersion.Error():
		return UnsupportedTLSVersion
	case alertHandshakeFailure.Error():
		return rejected + "; or there is no cipher that both sides support"
	}
	return rejected
}

// clientCertificate describes the certificate that the agent presented.
func clientCertificate(cluster config.Cluster) string {
	path := cluster.TLS.CertFile
	if path == "" {
		return "without a client certificate; if it requires one, set tls.cert_file and tls.key_file"
	}
	text := "with tls.cert_file " + path
	creds, err := login.ReadCredentials(cluster)
	if err != nil || len(creds.TLS.Certificates) == 0 {
		return text
	}
	if leaf := creds.TLS.Certificates[0].Leaf; leaf != nil && time.Now().After(leaf.NotAfter) {
		return text + ", which expired at " + leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	return text + "; check that the brokers trust its authority"
}

// ClusterName returns how messages name the cluster of a consumer.
func ClusterName(spec *config.Consumer) string {
	if spec.ClusterName != "" {
		return "cluster " + spec.ClusterName
	}
	return strings.Join(spec.Cluster.Brokers, ",")
}
