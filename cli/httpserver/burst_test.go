package httpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A timedConn knows when its client has sent a request first.
type timedConn struct {
	net.Conn
	dialed time.Time
	sent   atomic.Int64 // as time since dialed; 0 before
}

func (c *timedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.CompareAndSwap(0, int64(time.Since(c.dialed)))
	return n, err
}

// late reports whether the client has sent nothing within newConnGrace, as on a busy machine. The
// server may have closed the connection by then.
func (c *timedConn) late() bool {
	sent := time.Duration(c.sent.Load())
	return sent > newConnGrace || sent == 0 && time.Since(c.dialed) > newConnGrace
}

// getInTime requests url, again if its connection was late.
func getInTime(client *http.Client, url string) (*http.Response, error) {
	for {
		var used *timedConn
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { used = i.Conn.(*timedConn) }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, err
		}
		r, err := client.Do(req)
		if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() || used == nil || !used.late() {
			return r, err
		}
	}
}

// TestBurstOfClientsIsServed: more clients at the same time than connections are all served,
// over new connections and over kept ones.
func TestBurstOfClientsIsServed(t *testing.T) {
	t.Parallel()
	const limit, clients, each = 4, 32, 20
	ts, most := serveClients(t, ok, limit)
	ts.Start()
	defer ts.Close()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialed := time.Now()
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &timedConn{Conn: c, dialed: dialed}, nil
			}}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 30 * soon}
			for range each {
				r, err := getInTime(client, ts.URL)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > limit {
		t.Errorf("%d connections were open at a time, want %d at most", n, limit)
	}
}

// A pausingListener accepts connections. The first Read of the first one pauses after it has taken
// what has arrived.
type pausingListener struct {
	net.Listener
	accepted       atomic.Bool
	taken, release chan struct{}
}

func (l *pausingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.accepted.Swap(true) {
		return c, err
	}
	pause := sync.OnceFunc(func() { close(l.taken); <-l.release })
	return &pausingConn{TCPConn: c.(*net.TCPConn), pause: pause}, nil
}

type pausingConn struct {
	*net.TCPConn
	pause func()
}

func (c *pausingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.pause()
	return n, err
}

// TestRequestThatIsReadLateIsAnswered: on a busy host, the goroutine that has taken a request from
// the kernel may continue much later. Its connection is not closed for another client meanwhile.
func TestRequestThatIsReadLateIsAnswered(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pausing := &pausingListener{Listener: l, taken: make(chan struct{}), release: make(chan struct{})}
	s := New(ok, slog.New(slog.DiscardHandler))
	ts := &httptest.Server{Listener: Limit(s, pausing, 2), Config: s}
	ts.Start()
	defer ts.Close()
	release := sync.OnceFunc(func() { close(pausing.release) })
	defer release()
	answers := make(chan error, 2)
	first := dialClient(t, ts)
	go func() { answers <- get(first, 20*soon) }()
	<-pausing.taken
	second := dialClient(t, ts) // there is one connection, and one client may wait
	go func() { answers <- get(second, 20*soon) }()
	select {
	case err := <-answers:
		t.Fatalf("a request ended before it was processed: %v", err)
	case <-time.After(2 * newConnMax):
	}
	release()
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}
