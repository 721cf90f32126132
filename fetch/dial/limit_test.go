package dial

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/limits"
)

// A stubConn records that it was closed.
type stubConn struct {
	net.Conn
	closed bool
}

func (c *stubConn) Close() error {
	c.closed = true
	return nil
}

// newSlot returns a slot for the broker b:9092.
func newSlot(t *testing.T, ls *limiter, w Options) (*slot, *stubConn) {
	t.Helper()
	c, err := ls.admit("b:9092", w)
	if err != nil {
		t.Fatal(err)
	}
	conn := &stubConn{}
	c.conn = conn
	return c, conn
}

// joinedMember returns the membership of a consumer that has joined.
func joinedMember() *Membership {
	m := new(Membership)
	m.Begin()
	return m
}

// TestRejectionNamesLimit: only if the cluster has responded before, and the other end has closed the
// connection.
func TestRejectionNamesLimit(t *testing.T) {
	ls := &limiter{}
	member := Options{Member: new(Membership)}
	first, _ := newSlot(t, ls, member)
	if err := first.recordFailure("b:9092", io.EOF); err != io.EOF {
		t.Errorf("before the cluster has answered: %v", err)
	}
	first.release()
	lane, _ := newSlot(t, ls, Options{})
	lane.recordResponse()
	late, _ := newSlot(t, ls, member)
	if err := late.recordFailure("b:9092", NotKafkaError("it accepts connections and has not answered")); errors.As(err, new(*ConnectionLimitError)) {
		t.Errorf("of an unresponsive broker: %v", err)
	}
	late.release()
	lane.release()
	gone, _ := newSlot(t, ls, Options{})
	if err := gone.recordFailure("b:9092", io.EOF); !strings.HasSuffix(err.Error(), "before: it may be restarting, or clients at this address may have reached its limit max.connections.per.ip") || ls.atLimit("b:9092") {
		t.Errorf("without another connection: %v", err)
	}
	lane, _ = newSlot(t, ls, Options{})
	lane.recordResponse()
	ls.respondedAt("b:9092").Store(time.Now().Add(-responsiveFor).UnixNano())
	idle, _ := newSlot(t, ls, Options{})
	if err := idle.recordFailure("b:9092", io.EOF); !strings.Contains(err.Error(), ": it may be restarting, or clients at this address ") || ls.atLimit("b:9092") {
		t.Errorf("with an unresponsive connection: %v", err)
	}
	idle.release()
	ls.respondedAt("b:9092").Store(time.Now().UnixNano())
	for _, why := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE, &HandshakeError{io.EOF}} {
		c, _ := newSlot(t, ls, Options{Member: joinedMember()})
		want := "broker b:9092 closed the connection before answering, but the cluster has answered others: " +
			"the broker's limit max.connections.per.ip may be reached (this agent has 1 connections to it); raise the limit or run fewer consumers per agent"
		for range 2 { // sarama tries again on the same connection
			if err := c.recordFailure("b:9092", why); err.Error() != want || !errors.Is(err, why) {
				t.Errorf("%v: %v", why, err)
			}
		}
		c.release()
	}
}

// TestUnjoinedConsumersTakeTurns: where a broker limits connections, consumers that have not joined try
// one after the other with growing waits, and more of them at a time once one has succeeded. Those
// that have joined, and the fetcher, do not wait.
func TestUnjoinedConsumersTakeTurns(t *testing.T) {
	ls := &limiter{}
	member := Options{Member: new(Membership)}
	mayEnter := func(want bool, w Options, when string) *slot {
		t.Helper()
		c, err := ls.admit("b:9092", w)
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "max.connections.per.ip") {
			t.Fatalf("%s: %v", when, err)
		}
		return c
	}
	l := ls.limitOf("b:9092")
	later := func() { l.nextTry = time.Now().Add(-time.Millisecond) }
	mayEnter(true, Options{}, "at first").recordResponse()
	crowd := make([]*slot, 10)
	for i := range crowd {
		crowd[i] = mayEnter(true, member, "before a rejection")
	}
	for _, c := range crowd {
		_ = c.recordFailure("b:9092", io.EOF)
		c.release()
	}
	if l.wait != firstWait {
		t.Errorf("the wait is %v after simultaneous rejections", l.wait)
	}
	mayEnter(false, member, "right after a rejection")
	mayEnter(true, Options{Member: joinedMember()}, "of one that has joined")
	mayEnter(true, Options{}, "of the fetcher")
	if ls.limitOf("other:9092").rejectedLately() {
		t.Error("another broker counts as full")
	}
	for wait := 2 * firstWait; wait < 8*lastWait; wait *= 2 {
		later()
		c := mayEnter(true, member, "the next turn")
		mayEnter(false, member, "during another one's turn")
		_ = c.recordFailure("b:9092", io.EOF)
		c.release()
		if want := min(wait, lastWait); l.wait != want || time.Until(l.nextTry) > want || time.Until(l.nextTry) < want/2-time.Second {
			t.Errorf("the wait is %v until %v, want %v", l.wait, time.Until(l.nextTry), want)
		}
		mayEnter(false, member, "right after the turn")
	}
	later()
	c := mayEnter(true, member, "a turn that ends without an answer")
	c.release()
	for width := 1; width < 2*maxWidth; width *= 2 {
		later()
		turns := make([]*slot, min(width, maxWidth))
		for i := range turns {
			turns[i] = mayEnter(true, member, fmt.Sprint("turn ", i, " of ", width))
		}
		mayEnter(false, member, "beyond the width")
		turns[0].recordResponse()
		for _, c := range turns {
			c.release()
		}
	}
	l.rejectedAt = time.Now().Add(-limitedFor)
	for range maxWidth + 1 {
		mayEnter(true, member, "long after a rejection")
	}
}

// TestFetchConnectionGetsDescriptorOfMember: without a descriptor for a connection that fetches,
// one connection of a member is closed; a member that has not joined comes first. The connection
// fails with the cause, and its consumer counts as not joined.
func TestFetchConnectionGetsDescriptorOfMember(t *testing.T) {
	ls := &limiter{}
	cause := limits.DescriptorError("no descriptors")
	if ls.evictFor(cause) {
		t.Error("a connection is closed although there is none")
	}
	first, firstConn := newSlot(t, ls, Options{Member: joinedMember()})
	second, secondConn := newSlot(t, ls, Options{Member: new(Membership)})
	for _, s := range []*slot{first, second} {
		s.recordResponse()
	}
	if !ls.evictFor(cause) || !secondConn.closed || firstConn.closed {
		t.Error("the first to close is not that of the consumer that has not joined")
	}
	if !ls.evictFor(cause) || !firstConn.closed || first.member.joined() || first.evictedFor() != cause {
		t.Errorf("the next one: closed %v, joined %v, error %v", firstConn.closed, first.member.joined(), first.evictedFor())
	}
	if ls.evictFor(cause) {
		t.Error("a connection is closed twice")
	}
}

// TestFetchConnectionEvictsNewestMember: where a broker limits connections, a connection that fetches
// takes the place of the newest consumer that has not joined, or else of the newest one.
func TestFetchConnectionEvictsNewestMember(t *testing.T) {
	ls := &limiter{}
	lane := Options{Evict: true}
	router, _ := newSlot(t, ls, Options{})
	router.recordResponse()
	var conns []*stubConn
	var seats []*slot
	for _, m := range []*Membership{joinedMember(), new(Membership), new(Membership), joinedMember(), joinedMember(), joinedMember()} {
		c, conn := newSlot(t, ls, Options{Member: m})
		c.recordResponse()
		seats, conns = append(seats, c), append(conns, conn)
	}
	closed := func() (list []int) {
		for i, c := range conns {
			if c.closed {
				list = append(list, i)
			}
		}
		return list
	}
	reject := func(w Options, want string) {
		t.Helper()
		c, _ := newSlot(t, ls, w)
		defer c.release()
		if err := c.recordFailure("b:9092", io.EOF); !errors.As(err, new(*ConnectionLimitError)) {
			t.Fatal(err)
		}
		if got := fmt.Sprint(closed()); got != want {
			t.Errorf("the closed connections are %s, want %s", got, want)
		}
	}
	reject(Options{}, "[]")
	reject(lane, "[]")
	reject(lane, "[]") // the broker may be down
	ls.respondedAt("b:9092").Store(time.Now().UnixNano())
	reject(lane, "[2]")
	if why := seats[2].evictedFor(); why == nil || !strings.HasPrefix(why.Error(), "the connection to broker b:9092 was closed by the agent, which needed one for fetching: ") {
		t.Errorf("the reason is %v", why)
	}
	seats[2].release()
	reject(Options{Member: joinedMember()}, "[1 2]") // a member must not lose its membership
	reject(Options{Member: joinedMember()}, "[1 2]") // and must not cost another one its membership
	reject(lane, "[1 2 5]")
	if seats[5].member.joined() {
		t.Error("a member that was evicted counts as joined")
	}
	reject(lane, "[1 2 4 5]")
	reject(lane, "[1 2 3 4 5]")
	reject(lane, "[1 2 3 4 5]") // more evictions would not help
	ls.limitOf("b:9092").evictedAt = time.Now().Add(-evictAgainAfter)
	reject(lane, "[0 1 2 3 4 5]") // now they may
	conns[0].closed, seats[0].eviction = false, nil
	if c, _ := newSlot(t, ls, lane); c != nil {
		c.recordResponse()
	}
	reject(lane, "[1 2 3 4 5]")
	ls.respondedAt("b:9092").Store(time.Now().UnixNano())
	reject(lane, "[0 1 2 3 4 5]")
}

// TestUnjoinedConsumersWaitForFetchConnection: while a connection that fetches waits, no
// consumer that has not joined takes the place that was made for it, also if it is its turn.
func TestUnjoinedConsumersWaitForFetchConnection(t *testing.T) {
	ls := &limiter{}
	b := ls.limitOf("b:9092")
	lane, member := Options{Evict: true}, Options{Member: new(Membership)}
	mayTry := func() bool {
		b.nextTry = time.Time{} // it is its turn
		s, err := ls.admit("b:9092", member)
		if err == nil {
			s.release()
		}
		return err == nil
	}
	router, _ := newSlot(t, ls, Options{})
	router.recordResponse()
	late, _ := newSlot(t, ls, member)
	_ = late.recordFailure("b:9092", io.EOF)
	late.release()
	if !mayTry() {
		t.Error("a consumer has no turn although no connection that fetches waits")
	}
	first, _ := newSlot(t, ls, lane)
	_ = first.recordFailure("b:9092", io.EOF)
	first.release()
	if mayTry() {
		t.Error("a consumer takes the place of the connection that fetches")
	}
	b.fetchTriedAt = time.Now().Add(-lastWait)
	if !mayTry() {
		t.Error("consumers wait for a connection that is no longer tried")
	}
	second, _ := newSlot(t, ls, lane)
	_ = second.recordFailure("b:9092", io.EOF)
	second.release()
	third, _ := newSlot(t, ls, lane)
	third.recordResponse()
	if !mayTry() {
		t.Error("consumers wait for a connection that was answered")
	}
}
