package limits

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
)

func TestBudgetIsNotExceeded(t *testing.T) {
	d := Descriptors{Limit: 256, Files: 128}.files()
	if !d.Acquire(126) || d.Acquire(3) || !d.Acquire(2) || d.Acquire(1) {
		t.Errorf("%d of %d are taken, want all of them, and none more", d.used.Load(), d.share)
	}
	if text := d.Err().Error(); !strings.Contains(text, "limit of 256 descriptors reached (128 for files of sinks)") || !strings.Contains(text, "ulimit -n") {
		t.Errorf("the error is %q", text)
	}
	d.Release(2)
	if !d.Acquire(2) || d.Acquire(1) {
		t.Error("two that were released cannot be taken again, or more can")
	}
	var wg sync.WaitGroup
	d.Release(128)
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if d.Acquire(16) {
					d.Release(16)
				} else {
					t.Error("16 of 128 for each of 8 goroutines are too many")
				}
			}
		})
	}
	wg.Wait()
	if n := d.used.Load(); n != 0 {
		t.Errorf("%d are taken in the end", n)
	}
	if n := testing.AllocsPerRun(100, func() { d.Acquire(2); d.Release(2) }); n != 0 {
		t.Errorf("acquire and release allocate %v times", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a release of too many is not noticed")
		}
	}()
	d.Release(1)
}

// TestMembersLeaveConnectionsForFetching: connections to coordinators count in the budget of
// all connections to brokers, and do not use it up.
func TestMembersLeaveConnectionsForFetching(t *testing.T) {
	d := divide(128)
	brokers := d.brokers()
	members := d.members(brokers)
	for range d.Members {
		if !members.Acquire(1) {
			t.Fatalf("%d of %d are taken, and there is no further one", members.used.Load(), d.Members)
		}
	}
	if members.Acquire(1) {
		t.Error("members get more than their share")
	}
	if text := members.Err().Error(); !strings.Contains(text, "(16 for connections to coordinators)") {
		t.Errorf("the error is %q", text)
	}
	if !brokers.Acquire(d.Brokers-d.Members) || brokers.Acquire(1) {
		t.Errorf("%d of %d are taken, want all of them", brokers.used.Load(), d.Brokers)
	}
	members.Release(1)
	if !brokers.Acquire(1) || members.Acquire(1) {
		t.Error("a connection of a member that was closed cannot be taken, or more can")
	}
	brokers.Release(1)
	if !members.Acquire(1) {
		t.Error("a failed attempt of a member is counted")
	}
}

// TestDialCountsUntilClose: a connection counts until it is closed for the first time, and one
// that fails does not count.
func TestDialCountsUntilClose(t *testing.T) {
	b := Descriptors{Limit: 256, Brokers: 2}.brokers()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func(addr string) (net.Conn, error) { return b.Dial(t.Context(), new(net.Dialer), "tcp", addr) }
	first, err := dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second, err := dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_, err = dial(l.Addr().String())
	if failed := new(net.OpError); !errors.As(err, &failed) || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "limit of 256 descriptors reached (2 for connections to brokers)") {
		t.Errorf("a third connection of two: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second close: %v", err)
	}
	l.Close()
	if _, err := dial(l.Addr().String()); err == nil {
		t.Error("a closed port was reached")
	}
	if n := b.used.Load(); n != 1 {
		t.Errorf("%d connections count, want the one that is open", n)
	}
}
