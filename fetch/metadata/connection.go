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
	// refusalHolds is how long a cluster that refused the credentials is not asked
	// again: a thousand consumers that keep asking would lock the account.
	refusalHolds = 5 * time.Second
	// outageHolds is how long a cluster of which no broker could be reached is not dialled
	// again: a thousand consumers share one round of connections.
	outageHolds = time.Second
	// dialsAtOnce is how many brokers are tried at a time once one has taken its time:
	// each that is deaf takes ten seconds, and a consumer that waits for all of them
	// would say nothing for minutes.
	dialsAtOnce = 8
)

// A connection is a client's connection to any of the brokers.
type connection struct {
	c    *Client
	conn *wire.Conn
	bad  map[string]time.Time // when an address failed last
	full bool                 // the brokers did not accept its last connection

	switches int       // how often in a row another broker was asked because leaders stayed unknown
	switchAt time.Time // not before

	refusal error // why no broker answers, assumed to last until then
	until   time.Time
}

// ask makes a request: on the connection at hand, else to the brokers in random
// order, first one by one, until one answers.
func (n *connection) ask(ctx context.Context, request func(*wire.Conn) error) error {
	n.c.mu.Lock()
	stale := n.c.stale
	n.c.stale = false
	n.c.mu.Unlock()
	if stale {
		n.close()
		n.until = time.Time{}
	}
	if time.Now().Before(n.until) {
		return n.refusal
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
		if n.conn, errs = n.c.opener.OpenFirst(ctx, left[:some], n.full); n.conn != nil {
			err := request(n.conn)
			if err == nil || !wire.IsConnectionError(err) {
				return err
			}
			errs[n.conn.Addr()] = err
			n.close()
		}
		for addr, e := range errs {
			if wire.LoginRejected(e) {
				n.refusal, n.until = e, time.Now().Add(refusalHolds)
				return e
			}
			failed[addr] = e
			n.bad[addr] = time.Now()
		}
		if ctx.Err() != nil {
			return dial.Unreachable(failed)
		}
		left = slices.DeleteFunc(left, func(addr string) bool { return errs[addr] != nil })
	}
	all := dial.Unreachable(failed)
	n.full = errors.As(all, new(*dial.FullError))
	n.refusal = fmt.Errorf("reach brokers %s: %w", strings.Join(n.c.brokers, ","), all)
	n.until = time.Now().Add(outageHolds)
	return n.refusal
}

// addrs are the brokers known, then those to start from; those that failed lately come last,
// for one that does not answer takes seconds.
func (n *connection) addrs() []string {
	known := n.c.leaders.Addrs()
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	for _, i := range rand.Perm(len(n.c.brokers)) {
		if addr := n.c.brokers[i]; !slices.Contains(known, addr) {
			known = append(known, addr)
		}
	}
	slices.SortStableFunc(known, func(a, b string) int { return n.bad[a].Compare(n.bad[b]) })
	return known
}

// switchBroker closes the connection if leaders stay unknown, because another broker may
// know them. It does so less often while no broker knows them.
func (n *connection) switchBroker(now time.Time) {
	switch {
	case !n.c.leaders.Unresolved():
		n.switches = 0
	case n.conn != nil && !now.Before(n.switchAt):
		n.bad[n.conn.Addr()] = now
		n.close()
		n.switchAt = now.Add(min(time.Second<<min(n.switches, 10), refreshEvery))
		n.switches++
	}
}

// precious reports whether the broker might reject the next connection.
func (n *connection) precious() bool {
	return n.conn != nil && n.c.opener.Dialer().Full(n.conn.Addr())
}

func (n *connection) close() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
}
