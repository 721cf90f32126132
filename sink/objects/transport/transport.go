// Package transport sends the HTTP requests of all object stores, ends those that make no progress,
// and explains errors of connections as the user reads them.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"kcagent/sink"
)

// Limits of a connection.
const (
	connectTimeout = 10 * time.Second
	// idleTimeout is shorter than that of stores: an upload on a connection that the store closes
	// at this moment fails.
	idleTimeout = 3 * time.Second
	// idleConnections are those of all requests at the same time: 4 uploads and 8 lookups.
	idleConnections = 12
)

// A Transport sends requests, and ends those that do not make progress. It limits no request as a
// whole, because an upload may take hours.
type Transport struct {
	*http.Transport
	// Stall returns how long a request may be without progress. It must not be changed while there
	// are requests.
	Stall func(*http.Request) time.Duration
}

// New returns a transport. It reads the file with the authorities. A nil spec trusts those of the
// system.
func New(spec *sink.ObjectsTLS, stall func(*http.Request) time.Duration) (*Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if spec != nil {
		config.InsecureSkipVerify = spec.InsecureSkipVerify
		if spec.CAFile != "" {
			pem, err := os.ReadFile(spec.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read tls.ca_file: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("read tls.ca_file %s: no certificate found; use a PEM file", spec.CAFile)
			}
		}
	}
	return &Transport{Stall: stall, Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: connectTimeout,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConnsPerHost: idleConnections,
		DisableCompression:  true, // objects are read as they are stored
	}}, nil
}

// A StallError says that a request made no progress for a time.
type StallError time.Duration

func (e StallError) Error() string {
	return fmt.Sprintf("no response and no progress for %v", time.Duration(e))
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	limit := t.Stall(r)
	ctx, cancel := context.WithCancelCause(r.Context())
	p := &progress{ctx: ctx, cancel: cancel, limit: limit}
	p.timer = time.AfterFunc(limit, func() { cancel(StallError(limit)) })
	sent := r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		sent.Body = &sentBody{r.Body, p}
	}
	resp, err := t.Transport.RoundTrip(sent)
	if err != nil {
		err = p.explain(err)
		p.end()
		return nil, err
	}
	p.timer.Stop()
	resp.Body = &receivedBody{resp.Body, p}
	return resp, nil
}

// progress ends a request once no byte has moved for the limit.
type progress struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// explain replaces the error of a request that progress has ended.
func (p *progress) explain(err error) error {
	if stalled, ok := errors.AsType[StallError](context.Cause(p.ctx)); ok {
		return stalled
	}
	return err
}

func (p *progress) end() {
	p.timer.Stop()
	p.cancel(nil)
}

// A sentBody restarts the timer whenever the connection takes bytes.
type sentBody struct {
	io.ReadCloser
	p *progress
}

func (b *sentBody) Read(buf []byte) (int, error) {
	b.p.timer.Reset(b.p.limit)
	return b.ReadCloser.Read(buf)
}

// A receivedBody runs the timer while the caller waits for bytes.
type receivedBody struct {
	io.ReadCloser
	p *progress
}

func (b *receivedBody) Read(buf []byte) (int, error) {
	b.p.timer.Reset(b.p.limit)
	n, err := b.ReadCloser.Read(buf)
	b.p.timer.Stop()
	if err != nil && err != io.EOF {
		err = b.p.explain(err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	b.p.end()
	return b.ReadCloser.Close()
}
