package agent

import (
	"context"
	"time"

	"kcagent/retry"
)

// backoff and jitter are those of package retry under the names that the rest of this
// package uses.
type backoff struct{ retry.Backoff }

func (b *backoff) next() time.Duration { return b.Next() }
func (b *backoff) slow()               { b.Slow() }
func (b *backoff) reset()              { b.Reset() }

func (b *backoff) wait(ctx context.Context, sooner <-chan struct{}) bool { return b.Wait(ctx, sooner) }

func jitter(d time.Duration) time.Duration { return retry.Jitter(d) }
