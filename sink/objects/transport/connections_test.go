package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kcagent/e2e/certs"
	"kcagent/limits"
	"kcagent/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func patient(*http.Request) time.Duration { return time.Minute }

// get sends a request and reads the response.
func get(t *testing.T, tr http.RoundTripper, url string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return err
}

// TestAuthoritiesAreReadAgain: a store that is open uses the authorities that the file has now, also for
// a server to which it has a connection.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	former, present := certs.NewAuthority(t, "former"), certs.NewAuthority(t, "present")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{present.Issue(t, "localhost").TLS(t)}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(pem []byte) {
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(former.PEM)
	tr, err := New(&sink.ObjectsTLS{CAFile: file}, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.CloseIdleConnections()
	if err := get(t, tr, server.URL); err == nil || !strings.Contains(Explain("store", file, err).Error(), "is not signed by a certificate in tls.ca_file") {
		t.Errorf("with the former authority: %v", err)
	}
	write(present.PEM)
	if err := get(t, tr, server.URL); err != nil {
		t.Errorf("after the file has changed: %v", err)
	}
	write(former.PEM)
	if err := get(t, tr, server.URL); err == nil {
		t.Error("an authority that was removed is accepted")
	}
	write([]byte("half a fi"))
	if err := get(t, tr, server.URL); err == nil || !strings.Contains(err.Error(), "no certificate found; use a PEM file") {
		t.Errorf("without a certificate in the file: %v", err)
	}
}

// TestStoresShareConnections: two stores of the same server use the connections of each other.
func TestStoresShareConnections(t *testing.T) {
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = countNew(&opened)
	server.Start()
	defer server.Close()
	for range 5 {
		tr, err := New(nil, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.CloseIdleConnections()
		if err := get(t, tr, server.URL); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("5 requests of 5 stores have opened %d connections", n)
	}
}

// TestConnectionsCount: connections to stores count in their budget. Those that are idle give way to
// others, and those of requests do not.
func TestConnectionsCount(t *testing.T) {
	c := &connections{budget: limits.NewBudget(1)}
	defer c.closeIdle()
	tr, err := c.get(sink.ObjectsTLS{})
	if err != nil {
		t.Fatal(err)
	}
	arrived, finish := make(chan bool), make(chan bool)
	quick := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer quick.Close()
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- true; <-finish }))
	defer slow.Close()
	if err := get(t, tr, quick.URL); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- get(t, tr, slow.URL) }() // the connection to the quick server is idle
	select {
	case <-arrived:
	case err := <-done:
		t.Fatalf("an idle connection is in the way: %v", err)
	}
	if err := get(t, tr, quick.URL); !errors.As(err, new(limits.DescriptorError)) {
		t.Errorf("a second connection of one: %v", err)
	}
	close(finish)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := get(t, tr, quick.URL); err != nil {
		t.Errorf("after the request has ended: %v", err)
	}
}

// TestServerWithoutHTTP: a port of another protocol is named.
func TestServerWithoutHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.9\r\n"))
	}()
	tr, err := New(nil, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.CloseIdleConnections()
	err = get(t, tr, "http://"+l.Addr().String())
	if err == nil {
		t.Fatal("a banner of SSH is a response")
	}
	if got := Explain("store", "", err); got == nil || got.Error() != "the server at store does not respond by HTTP; correct endpoint" {
		t.Errorf("got %v for %v", got, err)
	}
}

func countNew(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
}
