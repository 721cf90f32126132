package sinkio

import (
	"context"
)

// A Mutex is a mutex whose Lock ends when a context ends.
type Mutex chan struct{}

func NewMutex() Mutex { return make(Mutex, 1) }

// Lock locks the mutex, or returns the error of ctx when ctx ends. It locks a free mutex
// also if ctx has ended: what does not wait does not fail.
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

// TryLock locks the mutex if it is free.
func (t Mutex) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}
