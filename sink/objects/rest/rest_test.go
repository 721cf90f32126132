package rest

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kcagent/sink"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/objects/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet hides what servers log about connections that a test breaks.
var quiet = log.New(io.Discard, "", 0)

func anonymous(*http.Request) error { return nil }

func client(t *testing.T, server *httptest.Server, spec *sink.ObjectsTLS) *Client {
	t.Helper()
	c, err := NewClient(strings.SplitN(server.URL, "://", 2)[1], spec, anonymous)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.pause = time.Millisecond
	return c
}

// TestTransientFailuresAreRepeated: a request is sent again, with its body, a few times, unless it
// must not be.
func TestTransientFailuresAreRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		fail     func(http.ResponseWriter)
		failures int32
		once     bool
		requests int32
		status   int // 0 is an error
	}{
		"busy":               {func(w http.ResponseWriter) { w.WriteHeader(503) }, 2, false, 3, 200},
		"throttled":          {func(w http.ResponseWriter) { w.WriteHeader(429) }, 99, false, 3, 429},
		"closed connection":  {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 1, false, 2, 200},
		"always closed":      {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 99, false, 3, 0},
		"rejected":           {func(w http.ResponseWriter) { w.WriteHeader(403) }, 99, false, 1, 403},
		"not implemented":    {func(w http.ResponseWriter) { w.WriteHeader(501) }, 99, false, 1, 501},
		"must not be resent": {func(w http.ResponseWriter) { w.WriteHeader(503) }, 99, true, 1, 503},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if string(body) != "content" {
					t.Errorf("the body is %q", body)
				}
				if requests.Add(1) <= c.failures {
					c.fail(w)
				}
			})
			resp, err := client(t, server, nil).Do(t.Context(), Request{Method: http.MethodPut, URL: server.URL, Body: Bytes("content"), Size: 7, Once: c.once})
			status := 0
			if err == nil {
				status = resp.StatusCode
				_ = resp.Body.Close()
			}
			if status != c.status || requests.Load() != c.requests {
				t.Errorf("status %d, error %v after %d requests, want status %d after %d", status, err, requests.Load(), c.status, c.requests)
			}
		})
	}
}

// TestUnreadableBodyIsNotRepeated: the error is that of the body.
func TestUnreadableBodyIsNotRepeated(t *testing.T) {
	var requests atomic.Int32
	server := storetest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	failed := errors.New("input/output error")
	_, err := client(t, server, nil).Do(t.Context(), Request{
		Method: http.MethodPut, URL: server.URL, Size: 7,
		Body: func() io.Reader { return io.MultiReader(strings.NewReader("con"), failingReader{failed}) },
	})
	if !errors.Is(err, failed) || err.Error() != "read the content: input/output error" || requests.Load() > 1 {
		t.Errorf("got %v after %d requests", err, requests.Load())
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestErrorsOfConnections: the text has the host and the cause, and neither the URL, which can have
// a signature, nor a port that differs each time.
func TestErrorsOfConnections(t *testing.T) {
	silent := storetest.Serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	halted := storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("begin"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	gone := storetest.Serve(t, nil)
	gone.Close()
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	plain := storetest.Serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, c := range map[string]struct {
		server *httptest.Server
		url    string
		want   string
	}{
		"refused":          {gone, gone.URL, "connect to HOST: connect: connection refused"},
		"no response":      {silent, silent.URL, "HOST: no response and no progress for 100ms"},
		"halted response":  {halted, halted.URL, "no response and no progress for 100ms"},
		"unknown issuer":   {secure, secure.URL, "the certificate of HOST is not signed by an authority of the system; set tls.ca_file to the certificate of its authority"},
		"TLS is not there": {plain, "https" + strings.TrimPrefix(plain.URL, "http"), "the endpoint does not use TLS; use http:// in endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := client(t, c.server, nil)
			if c.server == silent || c.server == halted {
				cl.http.Transport.(*transport.Transport).Stall = func(*http.Request) time.Duration { return 100 * time.Millisecond }
			}
			resp, err := cl.Do(t.Context(), Request{Method: http.MethodGet, URL: c.url + "/k?sig=geheim"})
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if want := strings.ReplaceAll(c.want, "HOST", cl.host); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestAuthorities(t *testing.T) {
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []sink.ObjectsTLS{{CAFile: ca}, {InsecureSkipVerify: true}} {
		resp, err := client(t, secure, &spec).Do(t.Context(), Request{Method: http.MethodGet, URL: secure.URL})
		if err != nil {
			t.Errorf("%+v: %v", spec, err)
			continue
		}
		_ = resp.Body.Close()
	}
}

// TestEndOfTheContext: the error is that of the context, not of the connection.
func TestEndOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := storetest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := client(t, server, nil).Do(ctx, Request{Method: http.MethodGet, URL: server.URL})
	if err != context.Canceled {
		t.Errorf("got %v", err)
	}
}
