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

// unresponsiveFor is how long an address that did not respond is tried after the others of its
// name. An address that accepts connections and does not respond costs ten seconds.
const unresponsiveFor = 5 * time.Minute

// addresses remembers which addresses of a host name did not respond lately. A name may have
// several, such as IPv6 and IPv4, or those of a load balancer, and some of them may be
// unresponsive. [net.Dialer] would use the next one only if an address refuses connections.
type addresses struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu             sync.Mutex
	unresponsiveAt map[string]time.Time // when ip:port last did not respond
	counts         map[string]int       // addresses of host:port, if host is a name
}

// systemLookup resolves host with the system's resolver.
func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// dial connects to the first address of addr that accepts a connection, and returns that address
// as ip:port. Its error has the errors of all addresses. The connection counts in the budget.
func (a *addresses) dial(ctx context.Context, addr string, budget *limits.Budget) (conn net.Conn, at string, err error) {
	all, err := a.resolve(ctx, addr)
	if err != nil {
		return nil, "", limits.StableError(&net.OpError{Op: "dial", Net: "tcp", Err: err}, nil)
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	failed := make(map[string]error)
	for i, at := range all {
		conn, err := dialOne(ctx, &dialer, at, len(all)-i, budget)
		if err == nil {
			return conn, at, nil
		}
		if ctx.Err() == nil {
			a.record(at, false)
		}
		failed[at] = err
	}
	if len(failed) == 1 {
		return nil, "", failed[all[0]]
	}
	return nil, "", Unreachable(failed)
}

// dialOne connects to one address. It leaves time for those after it, as [net.Dialer] does; left
// is how many there are, this one included.
func dialOne(ctx context.Context, dialer *net.Dialer, at string, left int, budget *limits.Budget) (net.Conn, error) {
	const minTimeout = 2 * time.Second
	if by, ok := ctx.Deadline(); ok && left > 1 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, max(time.Until(by)/time.Duration(left), minTimeout))
		defer stop()
	}
	return budget.Dial(ctx, dialer, "tcp", at)
}

// resolve returns the addresses of addr as ip:port. Addresses that did not respond lately come last.
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
	for at, since := range a.unresponsiveAt {
		if time.Since(since) > unresponsiveFor {
			delete(a.unresponsiveAt, at)
		}
	}
	if a.counts == nil {
		a.counts = make(map[string]int)
	}
	a.counts[addr] = len(all)
	slices.SortStableFunc(all, func(x, y string) int { return a.unresponsiveAt[x].Compare(a.unresponsiveAt[y]) })
	return all, nil
}

// count returns how many addresses addr had when it was last resolved, at least 1.
func (a *addresses) count(addr string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.counts[addr], 1)
}

// record records whether the address ip:port responded.
func (a *addresses) record(at string, responded bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if responded {
		delete(a.unresponsiveAt, at)
		return
	}
	if a.unresponsiveAt == nil {
		a.unresponsiveAt = make(map[string]time.Time)
	}
	a.unresponsiveAt[at] = time.Now()
}

// withAddress returns addr, followed by the address that it was resolved to if that is another.
func withAddress(addr, at string) string {
	if strings.EqualFold(addr, at) {
		return addr
	}
	return fmt.Sprintf("%s (%s)", addr, at)
}

// An UnreachableError has the errors of several brokers, or of several addresses of one, of which
// none responded.
type UnreachableError struct {
	each []string
	last error
}

// Unreachable joins errors in the order of their keys. Brokers and addresses are tried in a random
// order, and errors with the same causes must have the same text.
func Unreachable(failed map[string]error) *UnreachableError {
	e := new(UnreachableError)
	for _, addr := range slices.Sorted(maps.Keys(failed)) {
		e.each, e.last = append(e.each, failed[addr].Error()), failed[addr]
	}
	return e
}

func (e *UnreachableError) Error() string { return strings.Join(e.each, "; ") }

// Unwrap returns one of the errors.
func (e *UnreachableError) Unwrap() error { return e.last }
