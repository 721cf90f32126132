// Package transport has what requests of all object stores have in common: connections, on which a
// request ends if it makes no progress, the errors of connections and the messages of stores as the user
// reads them, the checksum of the content of an upload, and files with secrets.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"kcagent/sink"
)

// A Transport sends requests, and ends a request that makes no progress. It does not limit the time of
// a request as a whole, because an upload may take hours.
type Transport struct {
	// Stall returns how long a request may be without progress. It must not be changed while there
	// are requests.
	Stall func(*http.Request) time.Duration
	// Own, if not nil, sends the requests instead of the connections of the process.
	Own *http.Transport

	tls sink.ObjectsTLS
}

// New returns a transport on the connections of the process. It checks the file with the authorities.
// With a nil spec, it trusts the authorities of the system.
func New(spec *sink.ObjectsTLS, stall func(*http.Request) time.Duration) (*Transport, error) {
	t := &Transport{Stall: stall}
	if spec != nil {
		t.tls = *spec
	}
	_, err := t.base()
	return t, err
}

// base returns what sends the requests.
func (t *Transport) base() (*http.Transport, error) {
	if t.Own != nil {
		return t.Own, nil
	}
	return ofProcess().get(t.tls)
}

// CloseIdleConnections closes the connections without a request, also those of other stores with the
// same TLS settings, which open others when they need them.
func (t *Transport) CloseIdleConnections() {
	if base, err := t.base(); err == nil {
		base.CloseIdleConnections()
	}
}

// A StallError says that a request made no progress for a time.
type StallError time.Duration

func (e StallError) Error() string {
	return fmt.Sprintf("no response and no progress for %v", time.Duration(e))
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base, err := t.base()
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	limit := t.Stall(r)
	ctx, cancel := context.WithCancelCause(r.Context())
	p := &progress{ctx: ctx, cancel: cancel, limit: limit}
	p.timer = time.AfterFunc(limit, func() { cancel(StallError(limit)) })
	sent := r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		sent.Body = &sentBody{r.Body, p}
	}
	resp, err := base.RoundTrip(sent)
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
