package web

import (
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/lag"
	"kcagent/config"
	"kcagent/sink"
)

// A Snapshot is what the agent's loop publishes after each round. It is never
// changed afterwards.
type Snapshot struct {
	Config     *config.Config // in force; nil before the first valid one
	Reloads    Reloads
	Rows       []Row // in the order of the file; consumers that are ending and no longer in it come last
	Zombies    []ZombieConsumer
	Terminated []Ended // the last ones, oldest first
}

// Reloads are what became of the configuration file.
type Reloads struct {
	Path              string
	SHA256            string          // of the file in force
	FileSHA256        string          // of the file as it is now
	Text, FileText    string          // of both, with their secrets
	Problems          config.Problems // of the file as it is now; nil if it is valid
	AppliedAt         time.Time
	Applied, Rejected int64 // how many files
}

// A Row is one consumer of the agent's table.
type Row struct {
	ID       string
	Spec     *config.Consumer // that the consumer was last asked to apply
	Ending   bool             // it was asked to terminate or to make room for its replacement
	Pending  *PendingChange   // nil if there is none
	Consumer SnapshotSource
}

// A SnapshotSource is a consumer. Its state changes while the agent's loop rests, so it is
// read when it is shown.
type SnapshotSource interface {
	Snapshot() consumer.Snapshot // everything
	Brief() consumer.Snapshot    // without Partitions, Lag and Unpublished
	TotalLag() lag.Lag           // as in Snapshot
	SinkObjects() sink.Objects   // Unpublished, as in Snapshot
}

// A ZombieConsumer is one that did not stop in time.
type ZombieConsumer struct {
	ID, Name string
	Since    time.Time
}
