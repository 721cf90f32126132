package metadata

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
)

const (
	// rejectedFor is how long no request is made after the cluster has rejected the credentials:
	// the requests of a thousand consumers would lock the account.
	rejectedFor = 5 * time.Second
	// outageFor is how long no request is made after no broker could be reached, so that a
	// thousand consumers share one round of connections.
	outageFor = time.Second
	// dialsAtOnce is how many brokers are dialled at a time once the first ones did not respond
	// within a second. Each unresponsive broker costs ten seconds, and a consumer that waits for
	// all of them would report nothing for minutes.
	dialsAtOnce = 8
)

// A connection is a client's connection to any of the brokers.
type connection struct {
	c        *Client
	conn     *wire.Conn
	failedAt map[string]time.Time // when an address last failed
	limited  bool                 // the brokers limit connections and rejected the last one

	switches int       // changes of the broker in a row because leaders stayed unknown
	switchAt time.Time // the next change is not before

	failure     error     // what requests return before failedUntil
	failedUntil time.Time // no broker is dialled before
}

// do makes a request over the open connection. If there is none, or if it fails, it tries the
// brokers in random order until one responds, first one by one.
func (n *connection) do(ctx context.Context, request func(*wire.Conn) error) error {
	n.c.mu.Lock()
	stale := n.c.stale
	n.c.stale = false
	n.c.mu.Unlock()
	if stale {
		n.close()
		n.failedUntil = time.Time{}
	}
	if time.Now().Before(n.failedUntil) {
		return n.failure
	}
	if n.conn != nil {
		if err := request(n.conn); err == nil || !wire.IsConnectionError(err) {
			return err
		}
		n.close()
	}
	failed := make(map[string]error) // by address
	began := time.Now()
	for left := n.addrs(); len(left) > 0; {
		some := 1
		if time.Since(began) > time.Second {
			some = min(len(left), dialsAtOnce)
		}
		var errs map[string]error
		if n.conn, errs = n.c.opener.OpenFirst(ctx, left[:some], n.limited); n.conn != nil {
			err := request(n.conn)
			if err == nil || !wire.IsConnectionError(err) {
				return err
			}
			errs[n.conn.Addr()] = err
			n.close()
		}
		for addr, e := range errs {
			if wire.LoginRejected(e) {
				n.failure, n.failedUntil = e, time.Now().Add(rejectedFor)
				return e
			}
			failed[addr] = e
			n.failedAt[addr] = time.Now()
		}
		if ctx.Err() != nil {
			return dial.Unreachable(failed)
		}
		left = slices.DeleteFunc(left, func(addr string) bool { return errs[addr] != nil })
	}
	all := dial.Unreachable(failed)
	n.limited = errors.As(all, new(*dial.ConnectionLimitError))
	n.failure = fmt.Errorf("reach brokers %s: %w", strings.Join(n.c.brokers, ","), all)
	n.failedUntil = time.Now().Add(outageFor)
	return n.failure
}

// addrs returns the addresses to try: the brokers in use, then the configured ones. The brokers
// that failed last come last, because an unresponsive broker costs seconds.
func (n *connection) addrs() []string {
	known := n.c.leaders.Addrs()
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	for _, i := range rand.Perm(len(n.c.brokers)) {
		if addr := n.c.brokers[i]; !slices.Contains(known, addr) {
			known = append(known, addr)
		}
	}
	slices.SortStableFunc(known, func(a, b string) int { return n.failedAt[a].Compare(n.failedAt[b]) })
	return known
}

// switchBroker closes the connection if leaders stay unknown, because another broker may know them.
// It does so less and less often while no broker knows them.
func (n *connection) switchBroker(now time.Time) {
	switch {
	case !n.c.leaders.Unresolved():
		n.switches = 0
	case n.conn != nil && !now.Before(n.switchAt):
		n.failedAt[n.conn.Addr()] = now
		n.close()
		n.switchAt = now.Add(min(time.Second<<min(n.switches, 10), refreshInterval))
		n.switches++
	}
}

// atLimit reports whether the broker limits connections, so that it might reject the next one.
func (n *connection) atLimit() bool {
	return n.conn != nil && n.c.opener.Dialer().AtLimit(n.conn.Addr())
}

// close closes the connection, if there is one.
func (n *connection) close() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
}
