package kafka

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Thousands of consumers that start at one moment would all connect to their
// coordinators at once, each with its TLS handshake and authentication, and run
// into its backlog and into each other's timeouts.
const (
	// MaxFirstJoins is how many of a cluster's members may join for the first time at
	// a time.
	MaxFirstJoins = 64
	// admittedFor is how long one of them may take before it lets the next one
	// go ahead: an empty group is given its first assignment after three seconds
	// only, by default (group.initial.rebalance.delay.ms), and a coordinator that
	// does not answer must not keep those of the others waiting.
	admittedFor = 250 * time.Millisecond
	// spread is within what time those go on that had to wait.
	spread = 20 * time.Millisecond
)

// An admission lets in a few at a time. Each cluster has one of its own, so that
// a dead one takes nothing from the others.
type admission chan struct{}

func newAdmission() admission { return make(admission, MaxFirstJoins) }

// Enter waits for a turn. Leave gives it up and may be called more than once; it
// happens by itself after admittedFor.
func (a admission) Enter(ctx context.Context) (leave func(), err error) {
	select {
	case a <- struct{}{}:
	default:
		select {
		case a <- struct{}{}:
			time.Sleep(rand.N(spread))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	once := sync.OnceFunc(func() { <-a })
	late := time.AfterFunc(admittedFor, once)
	return func() {
		late.Stop()
		once()
	}, nil
}
