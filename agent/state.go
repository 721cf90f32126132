package agent

import "slices"

// A State is what a consumer does now. What a user wants of it is a
// config.State; the two are never one field.
type State string

// The states of a consumer.
const (
	Created    State = "CREATED"    // declared with state: stopped; holds no goroutine, socket or file
	Starting   State = "STARTING"   // not yet a member of its group
	Running    State = "RUNNING"    // a member that fetches
	Paused     State = "PAUSED"     // a member that does not fetch; everything it had is flushed
	Failing    State = "ERROR"      // something fails and is retried with backoff
	Stopping   State = "STOPPING"   // drains, flushes, commits and leaves
	Terminated State = "TERMINATED" // gone; kept only in the list of ended consumers
)

// States lists every state, in the order of a consumer's life.
var States = []State{Created, Starting, Running, Paused, Failing, Stopping, Terminated}

// moves are the legal moves. A move that is not here is a defect: it is
// refused and logged.
var moves = map[State][]State{
	Created:    {Starting, Terminated},
	Starting:   {Running, Paused, Failing, Stopping},
	Running:    {Paused, Failing, Stopping},
	Paused:     {Running, Failing, Stopping},
	Failing:    {Running, Paused, Stopping},
	Stopping:   {Created, Terminated},
	Terminated: {},
}

func legal(from, to State) bool { return slices.Contains(moves[from], to) }
