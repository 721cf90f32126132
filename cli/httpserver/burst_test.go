package httpserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A timedConn knows when its client has sent a request first.
type timedConn struct {
	net.Conn
	opened time.Time
	sent   atomic.Int64 // as time since opened; 0 before
}

func (c *timedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.CompareAndSwap(0, int64(time.Since(c.opened)))
	return n, err
}

// late reports whether the client has sent nothing within newConnGrace, as on a busy machine. The
// server may have closed the connection by then.
func (c *timedConn) late() bool {
	sent := time.Duration(c.sent.Load())
	return sent > newConnGrace || sent == 0 && time.Since(c.opened) > newConnGrace
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
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &timedConn{Conn: c, opened: time.Now()}, nil
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
