package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"kcagent/limits"
)

// Explain returns the cause of an error of a connection to a host, or nil if it is unknown. caFile is
// the file with the authorities; "" means the authorities of the system.
func Explain(at, caFile string, err error) error {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case errors.As(err, new(StallError)):
		return fmt.Errorf("%s: %w", at, err)
	case errors.As(err, &op) && op.Op == "dial":
		return limits.WithoutPorts(fmt.Errorf("connect to %s: %w", at, op.Err))
	case errors.As(err, new(x509.UnknownAuthorityError)):
		if caFile != "" {
			return fmt.Errorf("the certificate of %s is not signed by a certificate in tls.ca_file %s", at, caFile)
		}
		return fmt.Errorf("the certificate of %s is not signed by an authority of the system; set tls.ca_file to the certificate of its authority", at)
	case errors.As(err, &host):
		return fmt.Errorf("the certificate of %s is for [%s]; correct endpoint", at, strings.Join(host.Certificate.DNSNames, " "))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Errorf("the certificate of %s is only valid from %s to %s", at,
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, new(tls.RecordHeaderError)), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return errors.New("the endpoint does not use TLS; use http:// in endpoint")
	case strings.Contains(err.Error(), "malformed HTTP"): // net/http has no type for it
		return fmt.Errorf("the server at %s does not respond by HTTP; correct endpoint", at)
	}
	return nil
}

// identifier matches what may differ between responses, or be a secret.
var identifier = regexp.MustCompile(`[A-Za-z0-9+/=_-]{16,}`)

// Text returns a message of a store without identifiers, on one line and short enough for the log and
// the status.
func Text(message string) string {
	line := identifier.ReplaceAllStringFunc(strings.Join(strings.Fields(message), " "), func(word string) string {
		if strings.ContainsAny(word, "0123456789") {
			return "…"
		}
		return word // such as the name of a variable
	})
	if runes := []rune(line); len(runes) > 300 {
		return string(runes[:300]) + "…"
	}
	return line
}
