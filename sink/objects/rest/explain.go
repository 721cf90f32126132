package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"kcagent/limits"
)

// explain returns the cause of a request without a response. It names the host, but neither the
// addresses, of which a store has many, nor the URL, which may contain a signature.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if wrapped, ok := errors.AsType[*authorizeError](err); ok {
		return wrapped.err
	}
	if failed, ok := errors.AsType[*contentError](err); ok {
		return failed
	}
	return Connection(c.host, c.caFile(), err)
}

func (c *Client) caFile() string {
	if c.spec == nil {
		return ""
	}
	return c.spec.CAFile
}

// Connection returns the cause of an error of a connection to a host as the user reads it. caFile
// is the file with the authorities; "" means those of the system.
func Connection(host, caFile string, err error) error {
	if sent, ok := errors.AsType[*url.Error](err); ok {
		err = sent.Err
	}
	if cause := explainTLS(host, caFile, err); cause != nil {
		return cause
	}
	var op *net.OpError
	switch {
	case errors.As(err, new(stallError)):
		return fmt.Errorf("%s: %w", host, err)
	case errors.As(err, &op) && op.Op == "dial":
		return limits.WithoutPorts(fmt.Errorf("connect to %s: %w", host, op.Err))
	case errors.As(err, &op) && (op.Op == "read" || op.Op == "write"):
		return fmt.Errorf("connection to %s: %w", host, op.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s closed the connection", host)
	}
	return limits.WithoutPorts(err)
}

// explainTLS returns the cause of an error of TLS with a host, nil if it is none.
func explainTLS(at, caFile string, err error) error {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
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
	}
	return nil
}

func isCertificate(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError))
}

// identifier matches what may differ between responses, or be a secret.
var identifier = regexp.MustCompile(`[A-Za-z0-9+/=_-]{20,}`)

// Text returns a message of a store without identifiers, on one line and not too long.
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
