package fetch

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/badnet"
	"kcagent/fetch/dial"
)

// startResolving starts a fetcher for which host resolves to ips.
func (r *rig) startResolving(pin *dial.Pin, host, port string, ips ...string) *Fetcher {
	return r.startWith(Options{Pin: pin, Brokers: []string{net.JoinHostPort(host, port)}, Lookup: func(_ context.Context, name string) (all []netip.Addr, _ error) {
		if name != host {
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		}
		for _, ip := range ips {
			all = append(all, netip.MustParseAddr(ip))
		}
		return all, nil
	}})
}

// TestNextAddressIsUsed: the error names an address of a host name that accepts connections and does
// not respond, or that leads to another cluster. The next address is used after it, for fetches and
// for members.
func TestNextAddressIsUsed(t *testing.T) {
	t.Parallel()
	unresponsive := func(string) func(net.Conn) { return func(net.Conn) {} }
	closes := func(string) func(net.Conn) { return func(c net.Conn) { _ = c.Close() } }
	foreign := func(other string) func(net.Conn) { return badnet.Forward(t, other) }
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
			port := badnet.ListenAt(t, map[string]func(net.Conn){"127.0.0.3": c.bad(w.B.Addr), "127.0.0.2": badnet.Forward(t, w.A.Addr)})
			w.fetcher = w.startResolving(dial.NewPin("cluster-a"), "kafka.test", port, "127.0.0.3", "127.0.0.2")
			try := func() (err error) {
				if c.member {
					_, err = w.connectMember(new(dial.Membership), "kafka.test:"+port)
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
				time.Sleep(time.Second) // failures are remembered for a second
			}
			if err := try(); err != nil {
				t.Errorf("the second attempt: %v", err)
			}
		})
	}
	t.Run("all unresponsive", func(t *testing.T) {
		t.Parallel()
		w := newTwins(t)
		port := badnet.ListenAt(t, map[string]func(net.Conn){"127.0.0.3": func(net.Conn) {}, "127.0.0.2": func(net.Conn) {}})
		w.fetcher = w.startResolving(nil, "kafka.test", port, "127.0.0.3", "127.0.0.2")
		err := w.fetcher.Reach(t.Context(), "kafka.test:"+port)
		for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
			if want := "it (" + ip + ":" + port + ") accepts connections and has not answered within 10s"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	})
}
