package agent

import (
	"context"
	"time"
)

// backoff waits ever longer between tries, with jitter. The zero value is
// ready to use.
type backoff struct{ tries int }

const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 15 * time.Second
)

// next is how long to wait before the next try.
func (b *backoff) next() time.Duration {
	d := min(backoffFirst<<min(b.tries, 10), backoffLast)
	b.tries++
	return jitter(d)
}

// slow makes the next waits seconds at least: what is tried again too often may be
// locked out.
func (b *backoff) slow() { b.tries = max(b.tries, 5) }

// reset makes the next wait the first again.
func (b *backoff) reset() { b.tries = 0 }

// wait sleeps, until sooner at most; false if ctx ended first.
func (b *backoff) wait(ctx context.Context, sooner <-chan struct{}) bool {
	t := time.NewTimer(b.next())
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
