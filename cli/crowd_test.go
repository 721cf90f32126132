package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/lag"
	"kcagent/agent/stats"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/sink"
)

// crowdSize is many times the number of connections that the server of these tests has, which
// is that of an agent with 256 descriptors.
const (
	crowdSize        = 300
	crowdConnections = 32
)

// reconnectAfter is how long a client waits until it comes back.
const reconnectAfter = 50 * time.Millisecond

// crowds are clients that hold connections. Each function acts as one client until the server
// closes its connection or ctx ends.
var crowds = []struct {
	name string
	size int
	act  func(ctx context.Context, c net.Conn)
}{
	{"idle", crowdSize, func(_ context.Context, c net.Conn) {
		if answered(c, "/healthz") {
			waitClosed(c)
		}
	}},
	{"half-open", 3 * crowdSize, func(_ context.Context, c net.Conn) { waitClosed(c) }},
	{"slow headers", 3 * crowdSize, func(ctx context.Context, c net.Conn) {
		_, err := io.WriteString(c, "GET /status HTTP/1.1\r\nHost: x\r\n")
		for n := 0; err == nil && ctx.Err() == nil; n++ {
			time.Sleep(300 * time.Millisecond)
			_, err = fmt.Fprintf(c, "X-Header-%d: x\r\n", n)
		}
	}},
	{"slow readers", crowdSize, func(ctx context.Context, c net.Conn) {
		if _, err := io.WriteString(c, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil {
			<-ctx.Done()
		}
	}},
	{"slow readers of metrics", crowdSize, func(ctx context.Context, c net.Conn) {
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil {
			<-ctx.Done()
		}
	}},
	{"busy", crowdSize, func(ctx context.Context, c net.Conn) {
		for ctx.Err() == nil && answered(c, "/status") {
		}
	}},
}

// answered requests a path over c and reads the whole response.
func answered(c net.Conn, path string) bool {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil
}

func waitClosed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// smallBuffers makes a client that does not read block the server soon.
var smallBuffers = net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	if err == nil {
		err = controlErr
	}
	return err
}}

// startCrowd lets size clients act, each again over a new connection once the server has
// closed its own. It returns when each has been connected once.
func startCrowd(t *testing.T, address string, size int, act func(context.Context, net.Conn)) {
	ctx, cancel := context.WithCancel(t.Context())
	var running, connected sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for range size {
		connected.Add(1)
		once := sync.OnceFunc(connected.Done)
		running.Go(func() {
			for ctx.Err() == nil {
				c, err := smallBuffers.DialContext(ctx, "tcp", address)
				once()
				if err != nil {
					continue // the backlog is full
				}
				stop := context.AfterFunc(ctx, func() { c.Close() })
				act(ctx, c)
				stop()
				c.Close()
				time.Sleep(reconnectAfter)
			}
		})
	}
	connected.Wait()
}

// serveLarge serves the API of an agent whose /status has 1.5 MB.
func serveLarge(t *testing.T) (address string) {
	t.Helper()
	s := &web.Snapshot{Config: &config.Config{}}
	for i := range 100 {
		name := "c" + strconv.Itoa(i)
		s.Rows = append(s.Rows, web.Row{ID: name, Spec: &config.Consumer{Name: name, State: config.Running}, Consumer: failingConsumer(name)})
	}
	api := web.New(web.Options{
		Log: slog.New(slog.DiscardHandler), Snapshot: func() *web.Snapshot { return s },
		Alive: func(time.Duration) bool { return true },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &countedListener{Listener: l}
	server, clients := newServer(api.Handler(), counted, crowdConnections, slog.New(slog.DiscardHandler))
	var open sync.WaitGroup // connections whose goroutine has not ended
	setState := server.ConnState
	server.ConnState = func(c net.Conn, state http.ConnState) {
		setState(c, state)
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(clients) }()
	t.Cleanup(func() {
		server.Close()
		<-served
		open.Wait() // a response may be in progress
		if n := counted.most.Load(); n > crowdConnections {
			t.Errorf("%d connections were open at a time, want %d at most", n, crowdConnections)
		}
	})
	return l.Addr().String()
}

// A failingConsumer is one with a long error.
type failingConsumer string

func (c failingConsumer) Brief() consumer.Snapshot { return c.Snapshot() }

func (failingConsumer) TotalLag() lag.Lag { return lag.Lag{} }

func (failingConsumer) SinkObjects() sink.Objects { return sink.Objects{} }

func (c failingConsumer) Snapshot() consumer.Snapshot {
	s := consumer.Snapshot{ID: string(c), Name: string(c), State: consumer.Failing, Started: true, Fault: longError}
	counted := stats.New()
	s.FlushSeconds, s.CommitSeconds = &counted.FlushSeconds, &counted.CommitSeconds
	return s
}

var longError = strings.Repeat("x", 15<<10)

// A countedListener records how many of its connections were open at the same time.
type countedListener struct {
	net.Listener
	open, most atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := l.open.Add(1)
	for m := l.most.Load(); n > m && !l.most.CompareAndSwap(m, n); m = l.most.Load() {
	}
	return &countedConn{c.(*net.TCPConn), sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	*net.TCPConn
	release func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

// TestCrowdsDoNotPreventHealthChecks: 300 clients and more that hold connections in any way, and
// come back when they are closed, leave a connection to a health check and to a scrape.
func TestCrowdsDoNotPreventHealthChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	for _, crowd := range crowds {
		t.Run(crowd.name, func(t *testing.T) {
			address := serveLarge(t)
			startCrowd(t, address, crowd.size, crowd.act)
			var probes sync.WaitGroup
			defer probes.Wait()
			for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
				probes.Go(func() { checkServed(t, address, path, crowd.name == "slow readers of metrics" && path == "/metrics") })
			}
		})
	}
}

// probeTimeout is longer than that of a liveness probe, because the crowd uses the same processors.
// Without the limits, a probe would have to wait for the timeouts of many clients.
const probeTimeout = 30 * time.Second

// newConnGrace is the time that the server leaves to a client before it may close a connection on
// which nothing has arrived.
const newConnGrace = 100 * time.Millisecond

// checkServed requests a path as a liveness probe does. It repeats a request that was sent too late,
// because the processors were busy. If others scrape, the response may be 503.
func checkServed(t *testing.T, address, path string, othersScrape bool) {
	t.Helper()
	began := time.Now()
	for {
		resp, late, err := requestOnce(t, address, path, began.Add(probeTimeout))
		if err != nil && late && time.Since(began) < probeTimeout {
			continue
		}
		switch {
		case err != nil:
			t.Errorf("GET %s: %v after %s", path, err, time.Since(began).Round(time.Millisecond))
			return
		case resp.StatusCode != http.StatusOK && (!othersScrape || resp.Header.Get("Retry-After") == ""):
			t.Errorf("GET %s: %s", path, resp.Status)
		}
		t.Logf("GET %s: %s after %s", path, resp.Status, time.Since(began).Round(time.Millisecond))
		return
	}
}

// requestOnce requests a path over a new connection, and reads the whole response. late reports whether
// the server may have closed the connection before the request was sent.
func requestOnce(t *testing.T, address, path string, until time.Time) (resp *http.Response, late bool, err error) {
	dialed := time.Now()
	c, err := (&net.Dialer{Deadline: until}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return nil, false, err
	}
	defer c.Close()
	if err := c.SetDeadline(until); err != nil {
		return nil, false, err
	}
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	late = time.Since(dialed) > newConnGrace
	if err != nil {
		return nil, late, err
	}
	resp, err = http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, late, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, late, err
}
