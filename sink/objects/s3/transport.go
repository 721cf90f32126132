package s3

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
	"sync/atomic"
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

// A transport sends requests, and ends those that do not make progress. It limits no request as a
// whole, because an upload may take hours.
type transport struct {
	next *http.Transport
	tuning

	skew atomic.Int64 // time of the store minus ours, of the last response that rejects a request
}

func newTransport(spec *sink.ObjectsTLS, tune tuning) (*transport, error) {
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
	return &transport{tuning: tune, next: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: connectTimeout,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConnsPerHost: idleConnections,
		DisableCompression:  true, // objects are read as they are stored
	}}, nil
}

// A stallError says that a request made no progress.
type stallError time.Duration

func (e stallError) Error() string {
	return fmt.Sprintf("no response and no progress for %v", time.Duration(e))
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	limit := t.stall
	if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
		limit = t.completion
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &progress{ctx: ctx, cancel: cancel, limit: limit}
	w.timer = time.AfterFunc(limit, func() { cancel(stallError(limit)) })
	sent := r.WithContext(ctx)
	if r.Body != nil {
		sent.Body = &sentBody{r.Body, w}
	}
	resp, err := t.next.RoundTrip(sent)
	if err != nil {
		err = w.explain(err)
		w.end()
		return nil, err
	}
	w.timer.Stop()
	if at, dateErr := http.ParseTime(resp.Header.Get("Date")); dateErr == nil && resp.StatusCode == http.StatusForbidden {
		t.skew.Store(int64(time.Until(at)))
	}
	resp.Body = &receivedBody{resp.Body, w}
	if r.Method != http.MethodGet || r.URL.RawQuery != "" { // the client reads all but an object into memory
		resp.Body = &boundedBody{resp.Body, maxResponse}
	}
	return resp, nil
}

// maxResponse is more than a list of 1000 keys of 1024 bytes has, whose characters are escaped.
const maxResponse = 8 << 20

// A boundedBody fails when it is too large.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

var errTooLarge = errors.New("the response of the store is too large; check endpoint and the proxies in front of the store")

// progress ends a request once nothing has moved for the limit.
type progress struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// explain replaces the error of a request that progress has ended.
func (p *progress) explain(err error) error {
	if stalled, ok := errors.AsType[stallError](context.Cause(p.ctx)); ok {
		return stalled
	}
	return err
}

func (p *progress) end() {
	p.timer.Stop()
	p.cancel(nil)
}

// A sentBody restarts the timer whenever the connection takes a piece.
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
