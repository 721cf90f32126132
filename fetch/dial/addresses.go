package dial

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/limits"
)

// badFor is how long an address is tried after the others of its name, once it did not
// respond. One that accepts connections and does not respond costs ten seconds.
const badFor = 5 * time.Minute

// addresses remembers which addresses of a name did not respond lately. A name may have
// several: IPv6 and IPv4, or those of a load balancer, some of which may be dead. The
// system's dialer moves on to the next one only if there is no connection at all.
type addresses struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu  sync.Mutex
	bad map[string]time.Time // by ip:port: when it last did not respond
	all map[string]int       // how many addresses host:port has, if it is a name
}

// lookUp is the system's.
func lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// dial connects to the first address of addr that accepts a connection, and returns
// which one that is, as ip:port. Its error has those of all of them.
func (a *addresses) dial(ctx context.Context, addr string) (conn net.Conn, at string, err error) {
	all, err := a.resolve(ctx, addr)
	if err != nil {
		return nil, "", limits.StableError(&net.OpError{Op: "dial", Net: "tcp", Err: err}, nil)
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	failed := make(map[string]error)
	for i, at := range all {
		conn, err := dialOne(ctx, &dialer, at, len(all)-i)
		if err == nil {
			return conn, at, nil
		}
		if ctx.Err() == nil {
			a.note(at, false)
		}
		failed[at] = err
	}
	if len(failed) == 1 {
		return nil, "", failed[all[0]]
	}
	return nil, "", Unreachable(failed)
}

// dialOne leaves time for the addresses that are left, as [net.Dialer] does.
func dialOne(ctx context.Context, dialer *net.Dialer, at string, left int) (net.Conn, error) {
	const least = 2 * time.Second
	if by, ok := ctx.Deadline(); ok && left > 1 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, max(time.Until(by)/time.Duration(left), least))
		defer stop()
	}
	return limits.Brokers().Dial(ctx, dialer, "tcp", at)
}

// resolve returns the addresses of addr, those that responded lately first.
func (a *addresses) resolve(ctx context.Context, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return []string{addr}, nil
	}
	ips, err := a.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, ip := range ips {
		if at := net.JoinHostPort(ip.Unmap().String(), port); !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	if len(all) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for at, since := range a.bad {
		if time.Since(since) > badFor {
			delete(a.bad, at)
		}
	}
	if a.all == nil {
		a.all = make(map[string]int)
	}
	a.all[addr] = len(all)
	slices.SortStableFunc(all, func(x, y string) int { return a.bad[x].Compare(a.bad[y]) })
	return all, nil
}

// count returns how many addresses addr had when it was last resolved.
func (a *addresses) count(addr string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.all[addr], 1)
}

// note records whether an address responded.
func (a *addresses) note(at string, responded bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if responded {
		delete(a.bad, at)
		return
	}
	if a.bad == nil {
		a.bad = make(map[string]time.Time)
	}
	a.bad[at] = time.Now()
}

// named is addr with the address that it was resolved to.
func named(addr, at string) string {
	if strings.EqualFold(addr, at) {
		return addr
	}
	return fmt.Sprintf("%s (%s)", addr, at)
}

// An UnreachableError says why no broker answered.
type UnreachableError struct {
	each []string
	last error
}

// Unreachable joins errors in the order of their keys: brokers and the addresses of a
// name are tried in an order that changes, and the same causes are to have the same text.
func Unreachable(failed map[string]error) *UnreachableError {
	e := new(UnreachableError)
	for _, addr := range slices.Sorted(maps.Keys(failed)) {
		e.each, e.last = append(e.each, failed[addr].Error()), failed[addr]
	}
	return e
}

func (e *UnreachableError) Error() string { return strings.Join(e.each, "; ") }
func (e *UnreachableError) Unwrap() error { return e.last }
