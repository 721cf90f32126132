package consumer

import (
	"slices"
)

// A State is what a consumer does now. Its desired state is a [config.State]; the two are
// never one field.
type State string

// The states of a consumer.
const (
	Created    State = "CREATED"    // its desired state is stopped; it holds no goroutine, socket or file
	Starting   State = "STARTING"   // not a member of its group yet
	Running    State = "RUNNING"    // a member that fetches
	Paused     State = "PAUSED"     // a member that does not fetch; everything that it had read is flushed and committed
	Failing    State = "ERROR"      // something fails and is retried with backoff
	Stopping   State = "STOPPING"   // flushes, commits and leaves its group
	Terminated State = "TERMINATED" // ended; only in the list of terminated consumers
)

// States lists every state, in the order of a consumer's life.
var States = []State{Created, Starting, Running, Paused, Failing, Stopping, Terminated}

// moves are the legal changes of state. Another one is a defect: it is logged and not made.
var moves = map[State][]State{
	Created:    {Starting, Terminated},
	Starting:   {Running, Paused, Failing, Stopping, Created}, // Created: it has not run yet, see [Consumer.Wait]
	Running:    {Paused, Failing, Stopping},
	Paused:     {Running, Failing, Stopping},
	Failing:    {Running, Paused, Stopping},
	Stopping:   {Created, Terminated},
	Terminated: {},
}

func legal(from, to State) bool { return slices.Contains(moves[from], to) }
