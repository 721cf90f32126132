package kafka

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// MaxFirstJoins is how many members of a cluster may join for the first time at once.
	MaxFirstJoins = 64
	// admittedFor is how long a join may take before the next one is admitted. By default,
	// an empty group gets its first assignment only after three seconds
	// (group.initial.rebalance.delay.ms). An unresponsive coordinator must not delay the
	// groups of other coordinators.
	admittedFor = 250 * time.Millisecond
	// admissionSpread is the time over which members that had to wait are spread.
	admissionSpread = 20 * time.Millisecond
)

// An Admission limits how many members join for the first time at once. Without it,
// thousands of consumers that start together would connect to their coordinators together,
// each with a TLS handshake and a login. The backlog of the coordinators would overflow, and
// joins would time out. Each cluster has its own admission, so that a cluster that is down
// does not delay the others.
type Admission chan struct{}

func newAdmission() Admission { return make(Admission, MaxFirstJoins) }

// Enter waits until the member may join. The caller calls leave after the join; more than
// once is allowed. admittedFor later, the next member is admitted in any case.
func (a Admission) Enter(ctx context.Context) (leave func(), err error) {
	select {
	case a <- struct{}{}:
	default:
		select {
		case a <- struct{}{}:
			time.Sleep(rand.N(admissionSpread))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	release := sync.OnceFunc(func() { <-a })
	timer := time.AfterFunc(admittedFor, release)
	return func() {
		timer.Stop()
		release()
	}, nil
}
