package dial

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kcagent/retry"
)

// A limiter counts the connections to the brokers of one cluster, and decides who may connect
// where a broker limits them (max.connections.per.ip). Such a broker closes a connection at once,
// so a rejection looks like a port that requires TLS.
//
//   - Connections that fetch come first: without them, no consumer gets records. If one of them
//     is rejected while the broker still answers others, a member's connection is closed for it.
//   - Members of a group come next: consumers that have not joined must not cost them their
//     membership.
//   - Consumers that have not joined wait. They try one after the other, with growing waits, and
//     more of them at a time once one has succeeded. None tries while one that fetches waits for
//     its place: it would take the place of the member whose connection was closed.
type limiter struct {
	mu       sync.Mutex
	answered bool // a broker of the cluster has answered once
	byAddr   map[string]*brokerLimit
}

// A brokerLimit is what the limiter knows of one broker. limiter.mu guards it.
type brokerLimit struct {
	open    int     // connections over which the broker has answered
	members []*slot // those of them that belong to consumers, oldest first

	rejectedAt      time.Time     // when a connection was last rejected; zero if none was
	rejectedBy      string        // the address that rejected it
	openThen        int           // the most connections that were open at a rejection
	wait            time.Duration // between tries of consumers that have not joined
	nextTry         time.Time     // when they may try again
	width           int           // how many of them may try at a time
	trying          int           // how many of them are trying
	evicted         int           // connections of members that were closed since one that fetches was answered
	evictedAt       time.Time     // when the last of them was
	fetchRejectedAt time.Time     // when one that fetches was first rejected since then
	fetchTriedAt    time.Time     // when one that fetches was last rejected

	respondedAt atomic.Int64 // when a response last arrived over any connection, in Unix nanoseconds
}

const (
	// limitedFor is how long a broker counts as full after the last rejection.
	limitedFor = 5 * time.Minute
	// responsiveFor is longer than the time between two heartbeats of a member.
	responsiveFor = 5 * time.Second

	firstWait = time.Second
	lastWait  = 30 * time.Second
	maxWidth  = 64
	// maxEvicted is how many connections of members are closed before one that fetches is
	// answered. If that does not help, the limit is not the cause, or connections that were
	// under way took the places; so as many may be closed again after evictAgainAfter.
	maxEvicted      = 4
	evictAgainAfter = time.Minute
)

// limitOf returns what is known of the broker at addr. l.mu is held.
func (l *limiter) limitOf(addr string) *brokerLimit {
	b := l.byAddr[addr]
	if b == nil {
		if l.byAddr == nil {
			l.byAddr = make(map[string]*brokerLimit)
		}
		b = &brokerLimit{}
		l.byAddr[addr] = b
	}
	return b
}

// atLimit reports whether the broker at addr rejected a connection lately.
func (l *limiter) atLimit(addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limitOf(addr).rejectedLately()
}

// respondedAt returns where connections record when the broker at addr last sent something.
func (l *limiter) respondedAt(addr string) *atomic.Int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &l.limitOf(addr).respondedAt
}

// respondedLately reports whether the broker has sent something lately. An idle connection looks
// open for some time after its broker is gone.
func (b *brokerLimit) respondedLately() bool {
	return time.Since(time.Unix(0, b.respondedAt.Load())) < responsiveFor
}

// rejectedLately reports whether the broker rejected a connection lately.
func (b *brokerLimit) rejectedLately() bool {
	return !b.rejectedAt.IsZero() && time.Since(b.rejectedAt) < limitedFor
}

// fetchWaits reports whether a connection that fetches was rejected and will be tried again.
// The fetcher retries sooner than after lastWait while a consumer needs the connection.
func (b *brokerLimit) fetchWaits() bool {
	return !b.fetchRejectedAt.IsZero() && time.Since(b.fetchTriedAt) < lastWait
}

// A slot stands for one connection, from before it is dialled until it is closed. limiter.mu
// guards its state and errors.
type slot struct {
	limiter *limiter
	addr    string
	member  *Membership // nil if the connection is the fetcher's
	evict   bool        // a member's connection may be closed for it
	turn    bool        // it counts in brokerLimit.trying

	state    slotState
	conn     net.Conn // nil until it is dialled
	failed   error    // why the broker did not answer
	eviction error    // why the agent closed the connection; nil if it did not
}

type slotState int

const (
	slotOpening slotState = iota
	slotAnswered
	slotClosed
)

// admit permits the dial of a connection to addr, or returns a [*ConnectionLimitError] if it has to wait.
// The caller reports the results by recordResponse, recordFailure and release.
func (l *limiter) admit(addr string, o Options) (*slot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &slot{limiter: l, addr: addr, member: o.Member, evict: o.Evict}
	b := l.limitOf(addr)
	if o.Member == nil || o.Member.joined() || !b.rejectedLately() {
		return s, nil
	}
	if b.trying >= b.width || time.Now().Before(b.nextTry) || b.fetchWaits() {
		return nil, &ConnectionLimitError{Broker: b.rejectedBy, Open: b.openThen, Err: io.EOF}
	}
	s.turn = true
	b.trying++
	return s, nil
}

// recordResponse records the first response.
func (s *slot) recordResponse() {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	if s.state != slotOpening {
		return
	}
	s.state = slotAnswered
	s.limiter.answered = true
	b := s.limiter.limitOf(s.addr)
	b.respondedAt.Store(time.Now().UnixNano())
	b.open++
	switch {
	case s.member != nil:
		b.members = append(b.members, s)
	case s.evict:
		b.evicted, b.fetchRejectedAt = 0, time.Time{}
	}
	if s.turn {
		b.trying--
		b.width, b.wait, b.nextTry = min(2*b.width, maxWidth), 0, time.Time{}
	}
}

// recordFailure handles an error before the first response, and returns what it means.
func (s *slot) recordFailure(broker string, err error) error {
	s.limiter.mu.Lock()
	switch {
	case s.failed != nil:
		err = s.failed
		fallthrough
	case s.state != slotOpening, !closedByPeer(err), !s.limiter.answered:
		s.limiter.mu.Unlock()
		return err
	}
	b := s.limiter.limitOf(s.addr)
	var victim *slot
	full := &ConnectionLimitError{Broker: broker, Err: err}
	if b.open > 0 && b.respondedLately() { // otherwise the broker is down, or a proxy has no broker behind it
		victim = b.recordRejection(s)
		b.rejectedBy = broker
		full.Open = b.openThen
	}
	s.failed = full
	if victim != nil {
		victim.eviction = &ConnectionLimitError{Broker: broker, Open: b.openThen, Evicted: true, Err: io.EOF}
		victim.member.until.Store(0)
	}
	s.limiter.mu.Unlock()
	if victim != nil {
		_ = victim.conn.Close()
	}
	return full
}

// recordRejection records that the broker rejected s. It returns the connection to close for it,
// nil if there is none.
func (b *brokerLimit) recordRejection(s *slot) (victim *slot) {
	now := time.Now()
	if !b.rejectedLately() {
		b.openThen, b.wait, b.nextTry = 0, 0, time.Time{}
	}
	if !now.Before(b.nextTry) { // otherwise s began before the last rejection
		b.wait = min(max(2*b.wait, firstWait), lastWait)
		b.nextTry = now.Add(retry.Jitter(b.wait))
	}
	b.rejectedAt, b.width, b.openThen = now, 1, max(b.openThen, b.open)
	if s.evict {
		b.fetchTriedAt = now
	}
	if now.Sub(b.evictedAt) >= evictAgainAfter {
		b.evicted = 0
	}
	switch {
	case s.evict && b.fetchRejectedAt.IsZero():
		b.fetchRejectedAt = now
	case s.evict && b.evicted < maxEvicted && b.respondedAt.Load() > b.fetchRejectedAt.UnixNano():
		if victim = b.newestMember(true); victim != nil {
			b.evicted++
			b.evictedAt = now
		}
	case s.member != nil && s.member.joined():
		victim = b.newestMember(false)
	}
	return victim
}

// newestMember returns the newest connection of a consumer that has not joined. If there is none
// and joined is true, it returns the newest one of a consumer that has joined.
func (b *brokerLimit) newestMember(joined bool) (victim *slot) {
	for _, m := range b.members {
		switch {
		case m.eviction != nil:
		case !m.member.joined():
			victim = m
		case joined && (victim == nil || victim.member.joined()):
			victim = m
		}
	}
	return victim
}

// evictFor closes the newest connection of a member to any broker, because the process has no
// descriptor left for one that fetches, and reports whether there was one. cause is the error of
// the one that fetches.
func (l *limiter) evictFor(cause error) bool {
	l.mu.Lock()
	var victim *slot
	for _, b := range l.byAddr {
		if m := b.newestMember(true); m != nil && (victim == nil || victim.member.joined() && !m.member.joined()) {
			victim = m
		}
	}
	if victim == nil {
		l.mu.Unlock()
		return false
	}
	victim.eviction = cause
	victim.member.until.Store(0)
	l.mu.Unlock()
	_ = victim.conn.Close()
	return true
}

// release records that the connection was closed, whatever the cause.
func (s *slot) release() {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	b := s.limiter.limitOf(s.addr)
	switch s.state {
	case slotOpening:
		if s.turn {
			b.trying--
		}
	case slotAnswered:
		b.open--
		for i, m := range b.members {
			if m == s {
				b.members = append(b.members[:i:i], b.members[i+1:]...)
				break
			}
		}
	}
	s.state = slotClosed
}

// evictedFor returns why the agent closed the connection; nil if it did not.
func (s *slot) evictedFor() error {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	return s.eviction
}

// closedByPeer reports whether err means that the other end closed the connection.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
