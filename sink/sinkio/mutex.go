package sinkio

import (
	"context"
)

// A Mutex is a mutex that can be waited for with a context.
type Mutex chan struct{}

func NewMutex() Mutex { return make(Mutex, 1) }

// Lock waits for the turn. A turn that is free is taken even if ctx has ended:
// what need not wait need not fail.
func (t Mutex) Lock(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t Mutex) Unlock() { <-t }

// TryLock takes the turn if it is free.
func (t Mutex) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}
