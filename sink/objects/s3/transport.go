package s3

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/transport"
)

// An observer sends requests, notes the clock of the store, and bounds the responses that the client
// reads into memory.
type observer struct {
	*transport.Transport
	skew atomic.Int64 // time of the store minus ours, of the last response that rejects a request
}

func newObserver(spec *sink.ObjectsTLS, tune tuning) (*observer, error) {
	t, err := transport.New(spec, func(r *http.Request) time.Duration {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
			return tune.completion
		}
		return tune.stall
	})
	return &observer{Transport: t}, err
}

// RoundTrip implements [http.RoundTripper].
func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, dateErr := http.ParseTime(resp.Header.Get("Date")); dateErr == nil && resp.StatusCode == http.StatusForbidden {
		o.skew.Store(int64(time.Until(at)))
	}
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
