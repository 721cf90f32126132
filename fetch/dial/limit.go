package dial

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kcagent/retry"
)

// links counts the connections to the brokers of one cluster, and decides who may
// connect where a broker does not accept enough of them (max.connections.per.ip). Such
// a broker closes a connection at once, so a rejection looks like a port that wants TLS.
//
//   - Connections that fetch come first: without them, no consumer gets records. If one of
//     them is rejected while the broker still answers others, a member's connection is
//     closed for it.
//   - Members of a group come next: consumers that have not joined must not cost them their
//     membership.
//   - Consumers that have not joined wait. They try one after the other, with growing
//     waits, and more of them at a time once one has succeeded.
type links struct {
	mu       sync.Mutex
	answered bool // a broker of the cluster has answered once
	byAddr   map[string]*link
}

// A link is what is known of one broker. links.mu guards it.
type link struct {
	open    int         // connections that were answered
	members []*linkConn // the connections among them that belong to consumers, oldest first

	fullAt  time.Time // when a connection was last rejected; zero if none was
	broker  string    // which address that was
	most    int       // connections that were open at such a time
	wait    time.Duration
	next    time.Time // when consumers that have not joined may try again
	width   int       // how many of them at a time
	trying  int       // how many do
	evicted int       // connections of members that were closed since one that fetches was answered
	starved time.Time // when one that fetches was rejected for the first time since then

	heard atomic.Int64 // Unix nanoseconds of when a response came over any
}

const (
	// fullFor is how long a broker counts as full after the last rejection.
	fullFor   = 5 * time.Minute
	firstTurn = time.Second
	lastTurn  = 30 * time.Second
	mostTurns = 64
)

// A Membership records whether a consumer is a member of its group. The zero value is not.
type Membership struct {
	until atomic.Int64 // Unix nanoseconds
}

// Begin records that a generation began.
func (m *Membership) Begin() { m.until.Store(math.MaxInt64) }

// End records that the generation ended, and for how long the group keeps the member.
func (m *Membership) End(kept time.Duration) {
	m.until.CompareAndSwap(math.MaxInt64, time.Now().Add(kept).UnixNano())
}

// InGeneration reports whether a generation is on.
func (m *Membership) InGeneration() bool { return m.until.Load() == math.MaxInt64 }

func (m *Membership) joined() bool { return time.Now().UnixNano() < m.until.Load() }

// A FullError reports that a broker closed a connection before it answered, although the
// cluster has answered others: it is not about TLS or SASL.
type FullError struct {
	Broker  string // its address
	Open    int    // connections of this agent to it
	Evicted bool   // it was the agent that closed the connection, for one that fetches
	Err     error
}

func (e *FullError) Error() string {
	what := "broker " + e.Broker + " closed the connection before answering, but the cluster has answered others"
	switch {
	case e.Open == 0:
		return what + " before: it may be restarting, or clients at this address may have reached its limit max.connections.per.ip"
	case e.Evicted:
		what = "the connection to broker " + e.Broker + " was closed in favour of one that fetches"
	}
	return fmt.Sprintf("%s: the broker's limit max.connections.per.ip may be reached (this agent has %d connections to it); "+
		"raise the limit or run fewer consumers per agent", what, e.Open)
}

// Unwrap returns Err.
func (e *FullError) Unwrap() error { return e.Err }

func (ls *links) of(addr string) *link {
	l := ls.byAddr[addr]
	if l == nil {
		if ls.byAddr == nil {
			ls.byAddr = make(map[string]*link)
		}
		l = &link{}
		ls.byAddr[addr] = l
	}
	return l
}

// aliveFor is longer than the time between two heartbeats of a member.
const aliveFor = 5 * time.Second

// alive reports whether the broker has answered lately. A connection that is idle looks
// open for some time after its broker is gone.
func (l *link) alive() bool { return time.Since(time.Unix(0, l.heard.Load())) < aliveFor }

// full reports whether a broker rejected a connection lately.
func (l *link) full() bool { return !l.fullAt.IsZero() && time.Since(l.fullAt) < fullFor }

// full reports whether the broker at addr rejected a connection lately.
func (ls *links) full(addr string) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.of(addr).full()
}

// heard is when the broker at addr last sent something.
func (ls *links) heard(addr string) *atomic.Int64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return &ls.of(addr).heard
}

// A linkConn is one connection, from before it is dialled.
type linkConn struct {
	ls     *links
	addr   string
	member *Membership // nil if the connection is the fetcher's
	evicts bool        // a member's connection may be closed for it
	turn   bool        // it takes one of the turns

	state  linkState
	conn   net.Conn // nil until it is dialled
	failed error    // why it was not answered
	reason error    // why it was evicted
}

type linkState int

const (
	opening linkState = iota
	answered
	over
)

// enter permits the dial of a connection to addr, or returns why it has to wait. The caller
// reports the results by answer, fail and leave.
func (ls *links) enter(addr string, w Options) (*linkConn, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	c := &linkConn{ls: ls, addr: addr, member: w.Member, evicts: w.Evicts}
	l := ls.of(addr)
	if w.Member == nil || w.Member.joined() || !l.full() {
		return c, nil
	}
	if l.trying >= l.width || time.Now().Before(l.next) {
		return nil, &FullError{Broker: l.broker, Open: l.most, Err: io.EOF}
	}
	c.turn = true
	l.trying++
	return c, nil
}

// answer records the first response.
func (c *linkConn) answer() {
	c.ls.mu.Lock()
	defer c.ls.mu.Unlock()
	if c.state != opening {
		return
	}
	c.state = answered
	c.ls.answered = true
	l := c.ls.of(c.addr)
	l.heard.Store(time.Now().UnixNano())
	l.open++
	switch {
	case c.member != nil:
		l.members = append(l.members, c)
	case c.evicts:
		l.evicted, l.starved = 0, time.Time{}
	}
	if c.turn {
		l.trying--
		l.width, l.wait, l.next = min(2*l.width, mostTurns), 0, time.Time{}
	}
}

// fail handles an error before the first response, and returns what it means.
func (c *linkConn) fail(broker string, err error) error {
	c.ls.mu.Lock()
	switch {
	case c.failed != nil:
		err = c.failed
		fallthrough
	case c.state != opening, !hungUp(err), !c.ls.answered:
		c.ls.mu.Unlock()
		return err
	}
	l := c.ls.of(c.addr)
	var victim *linkConn
	full := &FullError{Broker: broker, Err: err}
	if l.open > 0 && l.alive() { // otherwise the broker accepts none, or a proxy has no server
		victim = l.reject(c)
		l.broker = broker
		full.Open = l.most
	}
	c.failed = full
	if victim != nil {
		victim.reason = &FullError{Broker: broker, Open: l.most, Evicted: true, Err: io.EOF}
		victim.member.until.Store(0)
	}
	c.ls.mu.Unlock()
	if victim != nil {
		_ = victim.conn.Close()
	}
	return full
}

// reject records that c was rejected, and returns the connection to be closed for it.
func (l *link) reject(c *linkConn) (victim *linkConn) {
	now := time.Now()
	if !l.full() {
		l.most, l.wait, l.next = 0, 0, time.Time{}
	}
	if !now.Before(l.next) { // otherwise it began before that was known
		l.wait = min(max(2*l.wait, firstTurn), lastTurn)
		l.next = now.Add(retry.Jitter(l.wait))
	}
	l.fullAt, l.width, l.most = now, 1, max(l.most, l.open)
	switch {
	case c.evicts && l.starved.IsZero():
		l.starved = now
	case c.evicts && l.evicted < mostEvicted && l.heard.Load() > l.starved.UnixNano():
		if victim = l.newest(true); victim != nil {
			l.evicted++
		}
	case c.member != nil && c.member.joined():
		victim = l.newest(false)
	}
	return victim
}

// mostEvicted is how many members' connections are closed before one that fetches was
// answered: if that does not help, it is not the limit.
const mostEvicted = 4

// newest returns the newest connection of a consumer that has not joined, or else, if
// joined, of one that has.
func (l *link) newest(joined bool) (victim *linkConn) {
	for _, m := range l.members {
		switch {
		case m.reason != nil:
		case !m.member.joined():
			victim = m
		case joined && (victim == nil || victim.member.joined()):
			victim = m
		}
	}
	return victim
}

// leave handles the end of the connection, whatever its cause.
func (c *linkConn) leave() {
	c.ls.mu.Lock()
	defer c.ls.mu.Unlock()
	l := c.ls.of(c.addr)
	switch c.state {
	case opening:
		if c.turn {
			l.trying--
		}
	case answered:
		l.open--
		for i, m := range l.members {
			if m == c {
				l.members = append(l.members[:i:i], l.members[i+1:]...)
				break
			}
		}
	}
	c.state = over
}

// why returns the reason of an eviction; nil if there was none.
func (c *linkConn) why() error {
	c.ls.mu.Lock()
	defer c.ls.mu.Unlock()
	return c.reason
}

// hungUp reports whether the other end closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
