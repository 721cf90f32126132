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

	"kcagent/limits"
	"kcagent/sink/objects/transport"
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
	if failed, ok := errors.AsType[*transport.ContentError](err); ok {
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
// is the file with the authorities; "" means the authorities of the system.
func Connection(host, caFile string, err error) error {
	if sent, ok := errors.AsType[*url.Error](err); ok {
		err = sent.Err
	}
	if cause := transport.Explain(host, caFile, err); cause != nil {
		return cause
	}
	var op *net.OpError
	switch {
	case errors.As(err, &op) && (op.Op == "read" || op.Op == "write"):
		return fmt.Errorf("connection to %s: %w", host, op.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s closed the connection", host)
	}
	return limits.WithoutPorts(err)
}

func isCertificate(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError))
}
