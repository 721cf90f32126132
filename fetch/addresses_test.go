package fetch

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/e2e/badnet"
)

// listenAt listens at the addresses of a loopback network on one port: serve gets the
// connections to each of them, a nil serve means that no process listens. It returns the
// port.
func listenAt(t *testing.T, serve map[string]func(net.Conn)) (port string) {
	t.Helper()
	port = "0"
	var listeners []net.Listener
	for ip, serve := range serve {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
		if err != nil {
			t.Skipf("listen at %s: %v", ip, err) // not on every system
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		listeners = append(listeners, l)
		if serve == nil {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				serve(c)
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
	}
	for _, l := range listeners {
		if ip, _, _ := net.SplitHostPort(l.Addr().String()); serve[ip] == nil {
			_ = l.Close()
		}
	}
	return port
}

// resolving makes a host resolve to ips.
func (r *rig) resolving(host, port string, ips ...string) *Fetcher {
	return r.startWith(Options{Brokers: []string{net.JoinHostPort(host, port)}, Lookup: func(_ context.Context, name string) (all []netip.Addr, _ error) {
		if name != host {
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		}
		for _, ip := range ips {
			all = append(all, netip.MustParseAddr(ip))
		}
		return all, nil
	}})
}

// TestNextAddressOfAName: an address of a name that accepts connections and does not
// respond, or leads to another cluster, is named in the error, and the next one is used
// after it, for fetches and for members.
func TestNextAddressOfAName(t *testing.T) {
	t.Parallel()
	unresponsive := func(string) func(net.Conn) { return func(net.Conn) {} }
	closes := func(string) func(net.Conn) { return func(c net.Conn) { _ = c.Close() } }
	foreign := func(other string) func(net.Conn) { return passTo(t, other) }
	silent := "it (127.0.0.3:PORT) accepts connections and has not answered within 10s"
	for name, c := range map[string]struct {
		bad    func(other string) func(net.Conn)
		want   string // the error of the first attempt for the first address
		member bool   // whose attempt that is
	}{
		"unresponsive":              {unresponsive, "", false},
		"unresponsive for a member": {unresponsive, silent, true},
		"closes":                    {closes, "", false},
		"closes for a member":       {closes, "address 127.0.0.3:PORT: ", true},
		"another cluster":           {foreign, "broker kafka.test:PORT (127.0.0.3:PORT) belongs to cluster cluster-b, but", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTwins(t)
			port := listenAt(t, map[string]func(net.Conn){"127.0.0.3": c.bad(w.b), "127.0.0.2": passTo(t, w.a)})
			w.fetcher = w.resolving("kafka.test", port, "127.0.0.3", "127.0.0.2")
			w.fetcher.o.Pin.id, w.fetcher.o.Pin.final = "cluster-a", true
			try := func() (err error) {
				if c.member {
					_, err = w.connectMember(new(Membership), "kafka.test:"+port)
				} else {
					_, _, err = w.fetcher.Coordinator(t.Context(), "g")
				}
				return err
			}
			err := try()
			if want := strings.ReplaceAll(c.want, "PORT", port); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("the first attempt: %v, want %q", err, want)
			}
			if err != nil {
				time.Sleep(outageHolds) // the first attempt's result is used until then
			}
			if err := try(); err != nil {
				t.Errorf("the second attempt: %v", err)
			}
		})
	}
	t.Run("all unresponsive", func(t *testing.T) {
		t.Parallel()
		w := newTwins(t)
		port := listenAt(t, map[string]func(net.Conn){"127.0.0.3": func(net.Conn) {}, "127.0.0.2": func(net.Conn) {}})
		w.fetcher = w.resolving("kafka.test", port, "127.0.0.3", "127.0.0.2")
		err := w.fetcher.Reach(t.Context(), "kafka.test:"+port)
		for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
			if want := "it (" + ip + ":" + port + ") accepts connections and has not answered within 10s"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	})
}

// passTo passes a connection on to a server.
func passTo(t *testing.T, server string) func(net.Conn) {
	way := badnet.Start(t, server)
	return func(c net.Conn) {
		to, err := net.Dial("tcp", way.Addr())
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _, _ = c.(*net.TCPConn).ReadFrom(to); _ = c.Close() }()
		go func() { _, _ = to.(*net.TCPConn).ReadFrom(c); _ = to.Close() }()
	}
}

// TestAddressesOfAName: an address that refuses connections costs no attempt, those that
// did not respond lately come last, and if there is none the error has them all.
func TestAddressesOfAName(t *testing.T) {
	w := newTwins(t)
	port := listenAt(t, map[string]func(net.Conn){"127.0.0.2": passTo(t, w.a), "127.0.0.3": nil})
	w.fetcher = w.resolving("kafka.test", port, "127.0.0.3", "::ffff:127.0.0.2", "127.0.0.3")
	if err := w.fetcher.Refresh(t.Context(), []string{"t"}); err != nil {
		t.Error(err)
	}
	order := func(want ...string) {
		t.Helper()
		for i := range want {
			want[i] += ":" + port
		}
		if all, err := w.fetcher.addresses.resolve(t.Context(), "kafka.test:"+port); err != nil || !slices.Equal(all, want) {
			t.Errorf("the order is %v, %v; want %v", all, err, want)
		}
	}
	order("127.0.0.2", "127.0.0.3")
	w.fetcher.addresses.note("127.0.0.2:"+port, false)
	order("127.0.0.3", "127.0.0.2")
	w.fetcher.addresses.bad["127.0.0.2:"+port] = time.Now().Add(-badFor)
	order("127.0.0.2", "127.0.0.3")
	w.fetcher.addresses.note("127.0.0.3:"+port, true)
	order("127.0.0.3", "127.0.0.2")

	gone := listenAt(t, map[string]func(net.Conn){"127.0.0.2": nil, "127.0.0.3": nil})
	for addr, want := range map[string][]string{
		"kafka.test:" + gone: {"connect to kafka.test:" + gone + ": dial tcp 127.0.0.", "127.0.0.2:" + gone, "127.0.0.3:" + gone, "refused"},
		"other.test:9092":    {"dial tcp: lookup other.test: no such host"},
		"127.0.0.2:" + gone:  {"dial tcp 127.0.0.2:" + gone},
	} {
		err := w.fetcher.Reach(t.Context(), addr)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v lacks %s", addr, err, part)
			}
		}
		if !ofNetwork(err) {
			t.Errorf("%s: %v is not of the network", addr, err)
		}
	}
	if err := w.fetcher.Reach(t.Context(), "no-port"); err == nil || errors.Is(err, sarama.ErrNotConnected) {
		t.Errorf("an address without a port: %v", err)
	}
}

// TestErrorsOfANameStayTheSame: neither the port from which a name server was asked nor
// the order in which the addresses are tried is in the error.
func TestErrorsOfANameStayTheSame(t *testing.T) {
	local := 40000
	a := &addresses{lookup: func(context.Context, string) ([]netip.Addr, error) {
		local++
		from, to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: local}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 53), Port: 53}
		failed := &net.OpError{Op: "read", Net: "udp", Source: from, Addr: to, Err: context.DeadlineExceeded}
		return nil, &net.DNSError{Err: failed.Error(), Name: "kafka.test", IsTimeout: true}
	}}
	for range 2 {
		if _, _, err := a.dial(t.Context(), "kafka.test:9092"); err == nil || err.Error() != "dial tcp: lookup kafka.test: read udp 127.0.0.53:53: context deadline exceeded" {
			t.Errorf("no name server: %v", err)
		}
	}
	port := listenAt(t, map[string]func(net.Conn){"127.0.0.2": nil, "127.0.0.3": nil})
	ips := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	texts := make(map[string]bool)
	for range 2 {
		a = &addresses{lookup: func(context.Context, string) ([]netip.Addr, error) { return ips, nil }}
		_, _, err := a.dial(t.Context(), "kafka.test:"+port)
		texts[err.Error()] = true
		slices.Reverse(ips)
	}
	if len(texts) != 1 {
		t.Errorf("the texts are %v", slices.Collect(maps.Keys(texts)))
	}
}
