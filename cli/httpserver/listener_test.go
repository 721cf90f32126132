package httpserver

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soon is the time within which a new client must be served, whatever others hold. It is shorter than
// each timeout of the server, and otherwise long, for a busy machine.
const soon = 4 * time.Second

// serveClients serves h over at most limit connections, and counts them.
func serveClients(t *testing.T, h http.Handler, limit int) (ts *httptest.Server, most *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: l}
	s := New(h, slog.New(slog.DiscardHandler))
	return &httptest.Server{Listener: Limit(s, counted, limit), Config: s}, &counted.most
}

// A countingListener records how many of its connections were open at the same time.
type countingListener struct {
	net.Listener
	open, most atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := l.open.Add(1)
	for m := l.most.Load(); n > m && !l.most.CompareAndSwap(m, n); m = l.most.Load() {
	}
	return &countedConn{TCPConn: c.(*net.TCPConn), release: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	*net.TCPConn // the server looks at what has arrived
	release      func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

func dialClient(t *testing.T, ts *httptest.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ts.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// get sends a request over c, which stays open, and returns an error unless the
// answer arrives in time.
func get(c net.Conn, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", r.Status)
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// isClosed reports whether the server closes c within the time.
func isClosed(t *testing.T, c net.Conn, within time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && (!ok || !timeout.Timeout())
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })

// idleConns returns a channel that receives whenever a connection becomes idle. The client has its
// answer before.
func idleConns(ts *httptest.Server) <-chan struct{} {
	idle, setState := make(chan struct{}, 16), ts.Config.ConnState
	ts.Config.ConnState = func(c net.Conn, state http.ConnState) {
		setState(c, state)
		if state == http.StateIdle {
			idle <- struct{}{}
		}
	}
	return idle
}

// TestIdleClientIsClosedForANewOne: four clients keep their connections; each further
// one is answered at once, and the connection that was idle for longest is closed.
func TestIdleClientIsClosedForANewOne(t *testing.T) {
	t.Parallel()
	const limit = 4
	ts, most := serveClients(t, ok, limit)
	idle := idleConns(ts)
	ts.Start()
	defer ts.Close()
	var clients []net.Conn
	for range limit - 1 { // one is for a client that waits
		clients = append(clients, dialClient(t, ts))
		if err := get(clients[len(clients)-1], soon); err != nil {
			t.Fatal(err)
		}
		<-idle // so that they are idle in this order
	}
	if err := get(clients[0], soon); err != nil { // the second one is idle for longest now
		t.Fatal(err)
	}
	<-idle
	for _, closed := range []int{1, 2, 0} {
		c := dialClient(t, ts)
		if err := get(c, soon); err != nil {
			t.Fatalf("a new client: %v", err)
		}
		<-idle
		if !isClosed(t, clients[closed], soon) {
			t.Errorf("client %d is still connected", closed)
		}
	}
	if n := most.Load(); n > limit {
		t.Errorf("%d connections were open at a time, want %d at most", n, limit)
	}
}

// TestConnectionStatesAreKnownOverTLS: with TLS and HTTP/2 the server wraps connections, and
// their states are known all the same. A busy one stays open while idle ones are closed.
func TestConnectionStatesAreKnownOverTLS(t *testing.T) {
	t.Parallel()
	const limit = 4
	for _, http2 := range []bool{false, true} {
		arrived, release := make(chan struct{}), make(chan struct{})
		ts, most := serveClients(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/busy" {
				close(arrived)
				<-release
			}
			ok(w, r)
		}), limit)
		ts.EnableHTTP2 = http2
		ts.StartTLS()
		request := func(path string) error {
			transport := ts.Client().Transport.(*http.Transport).Clone()
			t.Cleanup(transport.CloseIdleConnections)
			r, err := (&http.Client{Transport: transport, Timeout: 20 * soon}).Get(ts.URL + path)
			if err != nil {
				return err
			}
			defer r.Body.Close()
			if (r.ProtoMajor == 2) != http2 {
				return fmt.Errorf("answered by %s", r.Proto)
			}
			_, err = io.Copy(io.Discard, r.Body)
			return err
		}
		busy := make(chan error, 1)
		go func() { busy <- request("/busy") }()
		<-arrived
		time.Sleep(2 * newConnGrace) // from now on it could be closed if it was not busy
		for i := range 3 * limit {
			began := time.Now()
			if err := request("/"); err != nil {
				t.Fatalf("HTTP/2 %v, client %d: %v", http2, i, err)
			}
			if took := time.Since(began); took > soon {
				t.Errorf("HTTP/2 %v, client %d: answered after %s", http2, i, took)
			}
		}
		close(release)
		if err := <-busy; err != nil {
			t.Errorf("HTTP/2 %v: the busy client: %v", http2, err)
		}
		if n := most.Load(); n > limit {
			t.Errorf("HTTP/2 %v: %d connections were open at a time", http2, n)
		}
		ts.Close()
	}
}

// TestBusyClientsAreNotClosed: while every connection has a request to answer, the
// next client waits, until one of them is idle.
func TestBusyClientsAreNotClosed(t *testing.T) {
	t.Parallel()
	const limit = 4
	arrived, release := make(chan struct{}, 2*limit), make(chan struct{})
	ts, most := serveClients(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}), limit)
	ts.Start()
	defer ts.Close()
	answers := make(chan error, limit)
	for range limit - 1 {
		c := dialClient(t, ts)
		go func() { answers <- get(c, 20*soon) }()
		<-arrived
	}
	next := dialClient(t, ts)
	go func() { answers <- get(next, 20*soon) }()
	select {
	case <-arrived:
		t.Error("more requests are answered at a time than the limit says")
	case err := <-answers:
		t.Errorf("a client was answered although nothing was released: %v", err)
	case <-time.After(2 * newConnGrace):
	}
	release <- struct{}{} // one becomes idle, and makes room
	select {
	case <-arrived:
	case <-time.After(soon):
		t.Error("the client that waited is not served although another one is idle")
	}
	close(release)
	for range limit {
		if err := <-answers; err != nil {
			t.Errorf("a busy client: %v", err)
		}
	}
	if n := most.Load(); n > limit {
		t.Errorf("%d connections were open at a time, want %d at most", n, limit)
	}
}

// TestClientsWithoutARequestAreClosed: connections without a request, or with only a part of
// one, are closed for a new client, the oldest first, but not before idle ones.
func TestClientsWithoutARequestAreClosed(t *testing.T) {
	t.Parallel()
	const limit = 4
	ts, most := serveClients(t, ok, limit)
	answered := idleConns(ts)
	ts.Start()
	defer ts.Close()
	silent, partial := dialClient(t, ts), dialClient(t, ts)
	if _, err := io.WriteString(partial, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	idle := dialClient(t, ts)
	if err := get(idle, soon); err != nil {
		t.Fatal(err)
	}
	<-answered
	for i, oldest := range []net.Conn{idle, silent, partial} {
		dialClient(t, ts)
		if !isClosed(t, oldest, soon) {
			t.Fatalf("silent client %d: the connection that it should replace is still open", i)
		}
	}
	if err := get(dialClient(t, ts), soon); err != nil {
		t.Errorf("a client among unresponsive ones: %v", err)
	}
	if n := most.Load(); n > limit {
		t.Errorf("%d connections were open at a time, want %d at most", n, limit)
	}
}

// TestWaitingClientsDoNotDelayTheEnd: a client that waits for a connection does not delay the
// end of the server.
func TestWaitingClientsDoNotDelayTheEnd(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	ts, _ := serveClients(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}), 2)
	ended := make(chan error, 1)
	go func() { ended <- ts.Config.Serve(ts.Listener) }()
	busy := dialClient(t, ts)
	answer := make(chan error, 1)
	go func() { answer <- get(busy, 20*soon) }()
	<-arrived
	waits := dialClient(t, ts)
	time.Sleep(50 * time.Millisecond) // until it is accepted
	shut := make(chan error, 1)
	go func() { shut <- ts.Config.Shutdown(t.Context()) }()
	select {
	case err := <-ended:
		if err != http.ErrServerClosed {
			t.Error(err)
		}
	case <-time.After(5 * soon):
		t.Fatal("the server does not end")
	}
	if !isClosed(t, waits, soon) {
		t.Error("the client that waited is still connected")
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("the busy client: %v", err)
	}
	if err := <-shut; err != nil {
		t.Error(err)
	}
}
