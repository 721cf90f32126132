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
)

// A stubConn notes that it was closed.
type stubConn struct {
	net.Conn
	closed bool
}

func (c *stubConn) Close() error {
	c.closed = true
	return nil
}

// connected is a connection of a test to the broker b:9092.
func connected(t *testing.T, ls *links, w Options) (*linkConn, *stubConn) {
	t.Helper()
	c, err := ls.enter("b:9092", w)
	if err != nil {
		t.Fatal(err)
	}
	conn := &stubConn{}
	c.conn = conn
	return c, conn
}

func joinedMember() *Membership {
	m := new(Membership)
	m.Begin()
	return m
}

// TestRejectionNamesTheLimit: only where the cluster has answered once, and the other
// end has closed the connection.
func TestRejectionNamesTheLimit(t *testing.T) {
	ls := &links{}
	member := Options{Member: new(Membership)}
	first, _ := connected(t, ls, member)
	if err := first.fail("b:9092", io.EOF); err != io.EOF {
		t.Errorf("before the cluster has answered: %v", err)
	}
	first.leave()
	lane, _ := connected(t, ls, Options{})
	lane.answer()
	late, _ := connected(t, ls, member)
	if err := late.fail("b:9092", StrangerError("it accepts connections and has not answered")); errors.As(err, new(*FullError)) {
		t.Errorf("of an unresponsive broker: %v", err)
	}
	late.leave()
	lane.leave()
	gone, _ := connected(t, ls, Options{})
	if err := gone.fail("b:9092", io.EOF); !strings.HasSuffix(err.Error(), "before: it may be restarting, or clients at this address may have reached its limit max.connections.per.ip") || ls.full("b:9092") {
		t.Errorf("without another connection: %v", err)
	}
	lane, _ = connected(t, ls, Options{})
	lane.answer()
	ls.heard("b:9092").Store(time.Now().Add(-aliveFor).UnixNano())
	idle, _ := connected(t, ls, Options{})
	if err := idle.fail("b:9092", io.EOF); !strings.Contains(err.Error(), ": it may be restarting, or clients at this address ") || ls.full("b:9092") {
		t.Errorf("with a connection over which nothing has come lately: %v", err)
	}
	idle.leave()
	ls.heard("b:9092").Store(time.Now().UnixNano())
	for _, why := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE, &HandshakeError{io.EOF}} {
		c, _ := connected(t, ls, Options{Member: joinedMember()})
		want := "broker b:9092 closed the connection before answering, but the cluster has answered others: " +
			"the broker's limit max.connections.per.ip may be reached (this agent has 1 connections to it); raise the limit or run fewer consumers per agent"
		for range 2 { // sarama tries again on the same connection
			if err := c.fail("b:9092", why); err.Error() != want || !errors.Is(err, why) {
				t.Errorf("%v: %v", why, err)
			}
		}
		c.leave()
	}
}

// TestTurns: where a broker is full, consumers that have not joined try one after the
// other with growing waits, and more at a time once one has succeeded. Those that have,
// and the fetcher, do not wait.
func TestTurns(t *testing.T) {
	ls := &links{}
	member := Options{Member: new(Membership)}
	mayEnter := func(want bool, w Options, when string) *linkConn {
		t.Helper()
		c, err := ls.enter("b:9092", w)
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "max.connections.per.ip") {
			t.Fatalf("%s: %v", when, err)
		}
		return c
	}
	l := ls.of("b:9092")
	later := func() { l.next = time.Now().Add(-time.Millisecond) }
	mayEnter(true, Options{}, "at first").answer()
	crowd := make([]*linkConn, 10)
	for i := range crowd {
		crowd[i] = mayEnter(true, member, "before a rejection")
	}
	for _, c := range crowd {
		_ = c.fail("b:9092", io.EOF)
		c.leave()
	}
	if l.wait != firstTurn {
		t.Errorf("the wait is %v after rejections at a time", l.wait)
	}
	mayEnter(false, member, "right after a rejection")
	mayEnter(true, Options{Member: joinedMember()}, "of one that has joined")
	mayEnter(true, Options{}, "of the fetcher")
	if ls.of("other:9092").full() {
		t.Error("another broker is full, too")
	}
	for wait := 2 * firstTurn; wait < 8*lastTurn; wait *= 2 {
		later()
		c := mayEnter(true, member, "the next turn")
		mayEnter(false, member, "during another one's turn")
		_ = c.fail("b:9092", io.EOF)
		c.leave()
		if want := min(wait, lastTurn); l.wait != want || time.Until(l.next) > want || time.Until(l.next) < want/2-time.Second {
			t.Errorf("the wait is %v until %v, want %v", l.wait, time.Until(l.next), want)
		}
		mayEnter(false, member, "right after the turn")
	}
	later()
	c := mayEnter(true, member, "a turn that ends without an answer")
	c.leave()
	for width := 1; width < 2*mostTurns; width *= 2 {
		later()
		turns := make([]*linkConn, min(width, mostTurns))
		for i := range turns {
			turns[i] = mayEnter(true, member, fmt.Sprint("turn ", i, " of ", width))
		}
		mayEnter(false, member, "beyond the width")
		turns[0].answer()
		for _, c := range turns {
			c.leave()
		}
	}
	l.fullAt = time.Now().Add(-fullFor)
	for range mostTurns + 1 {
		mayEnter(true, member, "long after a rejection")
	}
}

// TestEviction: where a broker is full, a connection that fetches takes that of the
// newest consumer that has not joined, or else of the newest one.
func TestEviction(t *testing.T) {
	ls := &links{}
	lane := Options{Evicts: true}
	router, _ := connected(t, ls, Options{})
	router.answer()
	var conns []*stubConn
	var seats []*linkConn
	for _, m := range []*Membership{joinedMember(), new(Membership), new(Membership), joinedMember(), joinedMember(), joinedMember()} {
		c, conn := connected(t, ls, Options{Member: m})
		c.answer()
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
		c, _ := connected(t, ls, w)
		defer c.leave()
		if err := c.fail("b:9092", io.EOF); !errors.As(err, new(*FullError)) {
			t.Fatal(err)
		}
		if got := fmt.Sprint(closed()); got != want {
			t.Errorf("the closed ones are %s, want %s", got, want)
		}
	}
	reject(Options{}, "[]")
	reject(lane, "[]")
	reject(lane, "[]") // the broker may be gone for all
	ls.heard("b:9092").Store(time.Now().UnixNano())
	reject(lane, "[2]")
	if why := seats[2].why(); why == nil || !strings.HasPrefix(why.Error(), "the connection to broker b:9092 was closed in favour of one that fetches: ") {
		t.Errorf("the reason is %v", why)
	}
	seats[2].leave()
	reject(Options{Member: joinedMember()}, "[1 2]") // must not lose its membership
	reject(Options{Member: joinedMember()}, "[1 2]") // but not for that of another
	reject(lane, "[1 2 5]")
	if seats[5].member.joined() {
		t.Error("a member that was evicted comes before others")
	}
	reject(lane, "[1 2 4 5]")
	reject(lane, "[1 2 3 4 5]")
	reject(lane, "[1 2 3 4 5]") // it does not help
	if c, _ := connected(t, ls, lane); c != nil {
		c.answer()
	}
	reject(lane, "[1 2 3 4 5]")
	ls.heard("b:9092").Store(time.Now().UnixNano())
	reject(lane, "[0 1 2 3 4 5]")
}
