// Package gate stops the writes of a consumer while it is paused.
package gate

import (
	"sync"
)

// A Gate admits or blocks the writes to the sink. It guarantees a pause: once the channel
// that Shut returned is closed, no write is in progress and none will begin. Its methods
// are safe for concurrent use. The zero value is open.
type Gate struct {
	mu      sync.Mutex
	shut    bool
	inside  int
	emptied chan struct{} // closed when the gate is shut and no caller is inside
	closing chan struct{} // closed by the next Shut; nil if Closing was not called since the last one
}

// Enter returns false if the gate is shut. Each Enter that returned true needs
// a Leave.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside++
	return true
}

// Leave ends a write that Enter has admitted.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.shut && g.inside == 0 {
		close(g.emptied)
	}
}

// Shut makes Enter return false. The channel is closed once each caller inside has called
// Leave.
func (g *Gate) Shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.shut = true
		if g.closing != nil {
			close(g.closing)
			g.closing = nil
		}
		g.emptied = make(chan struct{})
		if g.inside == 0 {
			close(g.emptied)
		}
	}
	return g.emptied
}

// Closing returns a channel that the next Shut closes, so that a caller inside can abort
// long work. If the gate is shut, the channel is closed already.
func (g *Gate) Closing() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing == nil {
		g.closing = make(chan struct{})
		if g.shut {
			close(g.closing)
			defer func() { g.closing = nil }()
		}
	}
	return g.closing
}

// Open makes Enter return true.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// IsShut reports whether the gate is shut.
func (g *Gate) IsShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
