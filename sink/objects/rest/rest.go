// Package rest sends the requests of object stores whose API is plain HTTP. It repeats a request
// that can succeed soon, and explains errors of connections as the user reads them. Package transport
// ends a request that makes no progress.
package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"kcagent/retry"
	"kcagent/sink"
	"kcagent/sink/objects/transport"
)

// A Request describes a request, so that it can be sent again.
type Request struct {
	Method, URL string
	Header      http.Header // nil for none
	Body        Body        // nil for none
	Size        int64       // of the body
	// Once says that the request must not be sent again, because the store may have processed it.
	Once bool
}

// A Body returns a reader of the body for each attempt.
type Body func() io.Reader

// Bytes is a body that is in memory.
func Bytes(s string) Body { return func() io.Reader { return strings.NewReader(s) } }

// Section is a body that is a part of another one.
func Section(body io.ReaderAt, at, size int64) Body {
	return func() io.Reader { return io.NewSectionReader(body, at, size) }
}

// A Client sends requests. It is safe for concurrent use.
type Client struct {
	Authorize func(*http.Request) error // adds credentials; its errors are returned as they are

	http  *http.Client
	host  string
	spec  *sink.ObjectsTLS
	pause time.Duration // the longest wait before the second attempt
}

const (
	// stall is how long a request may be without progress. A store that joins the parts of a large
	// object does not send anything meanwhile.
	stall    = time.Minute
	attempts = 3
)

// NewClient returns a client for a host. It reads the file with the authorities.
func NewClient(host string, spec *sink.ObjectsTLS, authorize func(*http.Request) error) (*Client, error) {
	t, err := transport.New(spec, func(*http.Request) time.Duration { return stall })
	if err != nil {
		return nil, err
	}
	return &Client{
		Authorize: authorize, host: host, spec: spec, pause: 200 * time.Millisecond,
		http: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends a request, and sends it again after an error that can be over soon. It returns each
// response, whatever its status; the caller closes its body.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	wait := retry.Backoff{First: c.pause, Last: 5 * c.pause}
	for attempt := 1; ; attempt++ {
		resp, err := c.send(ctx, r)
		again := err != nil && transient(err) || err == nil && transientStatus(resp.StatusCode)
		if !again || r.Once || attempt == attempts || ctx.Err() != nil {
			if err != nil {
				return nil, c.explain(ctx, err)
			}
			return resp, nil
		}
		if err == nil {
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection is used again
			_ = resp.Body.Close()
		}
		wait.Wait(ctx, nil)
	}
}

func (c *Client) send(ctx context.Context, r Request) (*http.Response, error) {
	var reader io.Reader = http.NoBody
	if r.Body != nil && r.Size > 0 {
		reader = content{r.Body()}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, reader)
	if err != nil {
		return nil, err
	}
	req.ContentLength = r.Size
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if err := c.Authorize(req); err != nil {
		return nil, &authorizeError{err}
	}
	return c.http.Do(req)
}

// content marks its errors.
type content struct{ io.Reader }

func (c content) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && err != io.EOF {
		return n, &transport.ContentError{Err: err}
	}
	return n, err
}

// An authorizeError has the error of Authorize.
type authorizeError struct{ err error }

func (e *authorizeError) Error() string { return e.err.Error() }
func (e *authorizeError) Unwrap() error { return e.err }

// transient reports whether a request without a response may succeed soon.
func transient(err error) bool {
	return !isCertificate(err) && !errors.As(err, new(transport.StallError)) &&
		!errors.As(err, new(*authorizeError)) && !errors.As(err, new(*transport.ContentError))
}

func transientStatus(code int) bool {
	return code == http.StatusRequestTimeout || code == http.StatusTooManyRequests ||
		code/100 == 5 && code != http.StatusNotImplemented
}
