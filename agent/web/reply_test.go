package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// serve requests a path over a connection, with headers such as "Accept-Encoding: gzip", and
// returns the response with its body as it was sent.
func serve(t *testing.T, server *httptest.Server, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func newServedAPI(t *testing.T) *httptest.Server {
	a := newAPITest(t)
	publishThree(a)
	server := httptest.NewServer(a.Handler())
	t.Cleanup(server.Close)
	return server
}

// TestResponsesAreCompressedForClientsThatAcceptIt: from 1 KiB, by gzip, with q-values, and
// with the headers that caches need. HEAD has the headers of GET.
func TestResponsesAreCompressedForClientsThatAcceptIt(t *testing.T) {
	server := newServedAPI(t)
	const large, small = "/status", "/status?fields=summary"
	for _, tt := range []struct {
		path, accept string
		compressed   bool
	}{
		{large, "gzip", true},
		{"/assets/page.js", "gzip", true},
		{"/config", "gzip", true},
		{large, "zstd, br, gzip;q=0.5", true},
		{large, "identity;q=0.1, gzip;q=0.9", true},
		{large, "", false},
		{large, "gzip;q=0", false},
		{large, "br, zstd", false},
		{small, "gzip", false},
		{"/healthz", "gzip", false},
	} {
		resp, body := serve(t, server, http.MethodGet, tt.path, "Accept-Encoding: "+tt.accept)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("GET %s: %s, Vary %q", tt.path, resp.Status, resp.Header.Get("Vary"))
		}
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != tt.compressed {
			t.Errorf("GET %s with Accept-Encoding %q: compressed %v", tt.path, tt.accept, got)
		}
		head, none := serve(t, server, http.MethodHead, tt.path, "Accept-Encoding: "+tt.accept)
		for _, name := range []string{"Content-Type", "Content-Encoding", "Vary", "Cache-Control"} {
			if got, want := head.Header.Get(name), resp.Header.Get(name); got != want || head.StatusCode != http.StatusOK || none != "" {
				t.Errorf("HEAD %s: %s, %s %q, want %q; body %q", tt.path, head.Status, name, got, want, none)
			}
		}
		if tt.path == large {
			continue // it changes with each request
		}
		if n := head.ContentLength; n >= 0 && n != int64(len(body)) || n < 0 && !tt.compressed {
			t.Errorf("HEAD %s: length %d, GET has %d", tt.path, n, len(body))
		}
		if _, want := serve(t, server, http.MethodGet, tt.path); tt.compressed && decompress(t, body) != want {
			t.Errorf("GET %s differs compressed: %s", tt.path, decompress(t, body))
		}
	}
}

func decompress(t *testing.T, body string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

// TestUnchangedResponsesAreNotSentAgain: a client that sends the ETag of what it has gets 304
// without a body, whatever the encoding, until the content changes.
func TestUnchangedResponsesAreNotSentAgain(t *testing.T) {
	a := newAPITest(t)
	publishThree(a)
	server := httptest.NewServer(a.Handler())
	defer server.Close()
	for _, path := range []string{"/assets/page.js", "/config", "/status?fields=config,consumers", "/status/a", "/list-consumers", "/healthz", "/readyz"} {
		first, _ := serve(t, server, http.MethodGet, path)
		tag := first.Header.Get("ETag")
		if !strings.HasPrefix(tag, `W/"`) || first.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("GET %s: ETag %q, Cache-Control %q", path, tag, first.Header.Get("Cache-Control"))
		}
		for _, have := range []string{tag, strings.TrimPrefix(tag, "W/"), `"other", ` + tag, "*"} {
			for _, encoding := range []string{"gzip", "identity"} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					resp, body := serve(t, server, method, path, "If-None-Match: "+have, "Accept-Encoding: "+encoding)
					if resp.StatusCode != http.StatusNotModified || body != "" || resp.Header.Get("ETag") != tag ||
						resp.Header.Get("Vary") == "" || resp.Header.Get("Content-Encoding") != "" {
						t.Errorf("%s %s with If-None-Match %s: %s %v %q", method, path, have, resp.Status, resp.Header, body)
					}
				}
			}
		}
		for _, other := range []string{`"other"`, `W/"other"`, ""} {
			if resp, _ := serve(t, server, http.MethodGet, path, "If-None-Match: "+other); resp.StatusCode != http.StatusOK {
				t.Errorf("GET %s with If-None-Match %s: %s", path, other, resp.Status)
			}
		}
	}
	const path = "/status?fields=consumers.name"
	before, _ := serve(t, server, http.MethodGet, path)
	a.publish("  - {name: d}", nil)
	after, _ := serve(t, server, http.MethodGet, path, "If-None-Match: "+before.Header.Get("ETag"))
	if after.StatusCode != http.StatusOK || after.Header.Get("ETag") == before.Header.Get("ETag") {
		t.Errorf("changed content: %s, ETag %s", after.Status, after.Header.Get("ETag"))
	}
}

// TestErrorsAreNotStored: no cache may store an error or take one for what it has.
func TestErrorsAreNotStored(t *testing.T) {
	server := newServedAPI(t)
	for path, status := range map[string]int{"/nothing": 404, "/status/nobody": 404, "/status?fields=x": 400} {
		resp, body := serve(t, server, http.MethodGet, path, "If-None-Match: *")
		if resp.StatusCode != status || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("ETag") != "" || !strings.Contains(body, `"error"`) {
			t.Errorf("GET %s: %s %v %s", path, resp.Status, resp.Header, body)
		}
	}
}

// TestEveryResponseForbidsSniffing, errors included.
func TestEveryResponseForbidsSniffing(t *testing.T) {
	server := newServedAPI(t)
	for _, path := range []string{"/", "/status", "/metrics", "/threads", "/config", "/healthz", "/readyz", "/nothing", "/status//a", "/status?limit=x"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			if resp, _ := serve(t, server, method, path); resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: %s %v", method, path, strconv.Itoa(resp.StatusCode), resp.Header)
			}
		}
	}
}
