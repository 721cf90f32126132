package dial

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kcagent/e2e/badnet"
	"kcagent/limits"
)

// TestUnresponsiveAddressesComeLast: an address that refuses connections costs no attempt, and
// those that did not respond lately come last.
func TestUnresponsiveAddressesComeLast(t *testing.T) {
	port := badnet.ListenAt(t, map[string]func(net.Conn){"127.0.0.2": func(net.Conn) {}, "127.0.0.3": nil})
	a := &addresses{lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("::ffff:127.0.0.2"), netip.MustParseAddr("127.0.0.3")}, nil
	}}
	conn, at, err := a.dial(t.Context(), "kafka.test:"+port, limits.Brokers())
	if err != nil || at != "127.0.0.2:"+port {
		t.Fatalf("connected to %s, error %v", at, err)
	}
	_ = conn.Close()
	order := func(want ...string) {
		t.Helper()
		for i := range want {
			want[i] += ":" + port
		}
		if all, err := a.resolve(t.Context(), "kafka.test:"+port); err != nil || !slices.Equal(all, want) {
			t.Errorf("the order is %v, %v; want %v", all, err, want)
		}
	}
	order("127.0.0.2", "127.0.0.3")
	a.record("127.0.0.2:"+port, false)
	order("127.0.0.3", "127.0.0.2")
	a.unresponsiveAt["127.0.0.2:"+port] = time.Now().Add(-unresponsiveFor)
	order("127.0.0.2", "127.0.0.3")
	a.record("127.0.0.3:"+port, true)
	order("127.0.0.3", "127.0.0.2")
}

// TestErrorTextIsStable: neither the local port of a name lookup nor the order in which addresses are
// tried is in the error.
func TestErrorTextIsStable(t *testing.T) {
	local := 40000
	a := &addresses{lookup: func(context.Context, string) ([]netip.Addr, error) {
		local++
		from, to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: local}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 53), Port: 53}
		failed := &net.OpError{Op: "read", Net: "udp", Source: from, Addr: to, Err: context.DeadlineExceeded}
		return nil, &net.DNSError{Err: failed.Error(), Name: "kafka.test", IsTimeout: true}
	}}
	for range 2 {
		if _, _, err := a.dial(t.Context(), "kafka.test:9092", limits.Brokers()); err == nil || err.Error() != "dial tcp: lookup kafka.test: read udp 127.0.0.53:53: context deadline exceeded" {
			t.Errorf("no name server: %v", err)
		}
	}
	port := badnet.ListenAt(t, map[string]func(net.Conn){"127.0.0.2": nil, "127.0.0.3": nil})
	ips := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	texts := make(map[string]bool)
	for range 2 {
		a = &addresses{lookup: func(context.Context, string) ([]netip.Addr, error) { return ips, nil }}
		_, _, err := a.dial(t.Context(), "kafka.test:"+port, limits.Brokers())
		texts[err.Error()] = true
		slices.Reverse(ips)
	}
	if len(texts) != 1 {
		t.Errorf("the texts are %v", slices.Collect(maps.Keys(texts)))
	}
}
