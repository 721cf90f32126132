package httpserver

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestServerClosesConnectionsOfSlowClients: a client that sends no request, or a part of
// one, cannot hold a connection for ever.
func TestServerClosesConnectionsOfSlowClients(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /status HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(start) >= time.Minute {
		t.Errorf("half a request was held for %s: %v", time.Since(start), err)
	}
	if s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Errorf("a limit is missing: %+v", s)
	}
}

// TestPanicsOfHandlersAreLogged: a panic of a handler is one line of the log, with the stack.
// Other errors of the server are warnings.
func TestPanicsOfHandlersAreLogged(t *testing.T) {
	var out bytes.Buffer
	s := New(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken\nhandler") }), slog.New(slog.NewTextHandler(&out, nil)))
	server := httptest.NewUnstartedServer(nil)
	server.Config = s
	server.Start()
	if resp, err := http.Get(server.URL); err == nil {
		resp.Body.Close()
		t.Error("the request succeeded")
	}
	server.Close()
	line := out.String()
	if strings.Count(line, "\n") != 1 || !strings.Contains(line, `level=ERROR msg="handler of an http request panicked" message="http: panic serving`) ||
		!strings.Contains(line, `broken\nhandler`) || !strings.Contains(line, "server_test.go") {
		t.Errorf("logged %q", line)
	}
	out.Reset()
	s.ErrorLog.Printf("http: Accept error: %s", "EMFILE")
	if line := out.String(); !strings.Contains(line, `level=WARN msg="http server reported an error" message="http: Accept error: EMFILE"`) {
		t.Errorf("logged %q", line)
	}
}
