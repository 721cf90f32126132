// Package retry has what every retry loop of the agent needs: how long to wait
// before the next attempt, a signal that ends a wait early, and whether an error
// is a timeout. It does not depend on Kafka and does no I/O.
//
// Start reading at [Backoff].
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"
)

// The bounds of a [Backoff] whose fields are zero.
const (
	DefaultFirst = 250 * time.Millisecond
	DefaultLast  = 15 * time.Second
)

// A Backoff computes the waits between attempts. Each wait is up to twice as long as
// the one before, with jitter, up to Last. The zero value is ready to use. A Backoff is
// not safe for concurrent use.
type Backoff struct {
	First time.Duration // the longest first wait; zero means DefaultFirst
	Last  time.Duration // the longest wait; zero means DefaultLast

	attempts int // since the last Reset
}

// Next returns the wait before the next attempt and counts that attempt.
func (b *Backoff) Next() time.Duration {
	first, last := b.First, b.Last
	if first == 0 {
		first = DefaultFirst
	}
	if last == 0 {
		last = DefaultLast
	}
	b.attempts++
	return Delay(b.attempts-1, first, last)
}

// Slow skips the short waits, so that the next one takes seconds. Use it after errors
// whose repetition does harm, such as rejected credentials, which may lock an account.
func (b *Backoff) Slow() { b.attempts = max(b.attempts, 5) }

// Reset makes the next wait the first one again. Call it after a success.
func (b *Backoff) Reset() { b.attempts = 0 }

// Wait sleeps for [Backoff.Next]. It returns early, with true, when a value arrives on
// sooner, which may be nil, and with false when ctx is done.
func (b *Backoff) Wait(ctx context.Context, sooner <-chan struct{}) bool {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-sooner:
		return true
	case <-ctx.Done():
		return false
	}
}

// Delay returns the wait after some failures in a row, 0 meaning none: first, doubled
// for each failure up to last, with [Jitter]. It serves callers that count the failures
// themselves.
func Delay(failures int, first, last time.Duration) time.Duration {
	return Jitter(min(first<<min(failures, 10), last))
}

// Jitter returns a random duration between d/2 and d. Without it, clients that lost the
// same broker at the same time would return to it at the same time.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// A Signal wakes the goroutine that receives from it. It is a channel of capacity 1, so
// Set never blocks, and several calls before the receive count as one. The receiver must
// therefore look at the state that the signal announces, not count signals.
type Signal chan struct{}

// NewSignal returns a signal that is not set.
func NewSignal() Signal { return make(Signal, 1) }

// Set sets the signal. It never blocks and may be called by several goroutines at once.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// TimedOut reports whether err is a timeout of the network: the first [net.Error] in its
// tree says so.
func TimedOut(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}
