package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffGrowsUpToLast(t *testing.T) {
	for _, b := range []Backoff{{}, {First: 100 * time.Millisecond, Last: 5 * time.Second}} {
		first, last := b.First, b.Last
		if first == 0 {
			first, last = DefaultFirst, DefaultLast
		}
		var wait time.Duration
		for range 20 {
			wait = b.Next()
			if wait < first/2 || wait > last {
				t.Errorf("wait is %s, want between %s and %s", wait, first/2, last)
			}
		}
		if wait < last/2 {
			t.Errorf("wait is %s after 20 attempts, want at least %s", wait, last/2)
		}
		b.Reset()
		if wait := b.Next(); wait > first {
			t.Errorf("wait is %s after a reset, want at most %s", wait, first)
		}
	}
}

func TestSlowSkipsShortWaits(t *testing.T) {
	var b Backoff
	b.Slow()
	if wait := b.Next(); wait < DefaultFirst<<5/2 {
		t.Errorf("wait is %s, want at least %s", wait, DefaultFirst<<5/2)
	}
}

func TestWaitEndsEarlyWithSignalOrContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		began := time.Now()
		sooner := NewSignal()
		sooner.Set()
		if !b.Wait(t.Context(), sooner) || time.Since(began) != 0 {
			t.Errorf("a set signal did not end the wait at once")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.Wait(ctx, nil) || time.Since(began) != 0 {
			t.Errorf("a canceled context did not end the wait at once")
		}
		b.Reset()
		if !b.Wait(t.Context(), nil) {
			t.Errorf("Wait returned false without a canceled context")
		}
		if waited := time.Since(began); waited < DefaultFirst/2 || waited > DefaultFirst {
			t.Errorf("waited %s, want between %s and %s", waited, DefaultFirst/2, DefaultFirst)
		}
	})
}

func TestSignalsBeforeReceiveCountAsOne(t *testing.T) {
	s := NewSignal()
	s.Set()
	s.Set()
	<-s
	select {
	case <-s:
		t.Error("the signal was received twice")
	default:
	}
}

func TestTimedOut(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("timeout"), false},
		{io.EOF, false},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, false},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		{fmt.Errorf("connect: %w", &net.DNSError{IsTimeout: true}), true},
		{context.DeadlineExceeded, true},
	} {
		if got := TimedOut(c.err); got != c.want {
			t.Errorf("TimedOut(%v) is %t, want %t", c.err, got, c.want)
		}
	}
}
