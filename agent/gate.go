package agent

import "sync"

// A gate stands between the claims and the sink. Shutting it is how a pause
// becomes a promise: once the channel that Shut returned is closed, no write
// is under way and none will begin.
type gate struct {
	mu      sync.Mutex
	shut    bool
	inside  int
	emptied chan struct{} // closed when shut and nobody is inside
	closing chan struct{} // closed by the next Shut; nil if Closing was not called since the last one
}

// Enter returns false if the gate is shut. Each Enter that returned true needs
// a Leave.
func (g *gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside++
	return true
}

// Leave ends what Enter began.
func (g *gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.shut && g.inside == 0 {
		close(g.emptied)
	}
}

// Shut lets nobody in any more. The channel is closed once the last one inside
// has left.
func (g *gate) Shut() <-chan struct{} {
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

// Closing returns a channel that the next Shut closes. A caller inside the gate then ends
// long work early.
func (g *gate) Closing() <-chan struct{} {
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

// Open lets everybody in.
func (g *gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// IsShut reports whether the gate is shut.
func (g *gate) IsShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
