package sinkio

import (
	"context"
)

// A Mutex is a mutex whose Lock ends when a context ends.
type Mutex chan struct{}

// NewMutex returns an unlocked mutex.
func NewMutex() Mutex { return make(Mutex, 1) }

// Lock locks the mutex, or returns the error of ctx when ctx ends. It locks a free mutex
// also if ctx has ended: what does not wait does not fail.
func (m Mutex) Lock(ctx context.Context) error {
	select {
	case m <- struct{}{}:
		return nil
	default:
	}
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unlock unlocks the mutex.
func (m Mutex) Unlock() { <-m }

// TryLock locks the mutex if it is free.
func (m Mutex) TryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}
