package sink

import "kcagent/leader"

// An Identity tells a topic from another one that has or had its name. Both
// are opaque, and "" where the broker is too old to report them.
type Identity struct {
	Cluster string `json:"cluster"` // the cluster's id
	Topic   string `json:"id"`      // the topic's id (KIP-516, Kafka 2.8)
	// Brokers is a hash of the addresses through which the cluster was reached; "" if
	// unknown. It distinguishes a consumer that was moved to another cluster from another
	// cluster at the same addresses.
	Brokers string `json:"brokers,omitempty"`
}

// A Position is where a partition continues.
type Position struct {
	// Next is the offset after the last record in the sink; -1 if the ledger has no
	// entry for the partition.
	Next int64
	// Lineage changes when offsets may go back: something else than an agent set the
	// committed offset, or the topic is another one. Within one lineage offsets only
	// grow, so of two positions the further one is right.
	Lineage string
	// Topic is the topic that Next is about. Without an entry, it may name the cluster
	// that the file's other entries are about.
	Topic Identity
	// Epoch is the leader epoch of the last record before Next, or unknown. It lets the
	// partition's leader detect that its log was truncated since.
	Epoch leader.Epoch
}

// A Ledger is what a sink knows of a partition.
type Ledger struct {
	// ID names the ledger among all that may be filled for the group. It is "" if the
	// sink keeps none: the committed offset is then all there is.
	ID string
	Position
}

// Commits returns the positions that the group has committed for the ledger of an id.
type Commits func(ledger string) map[TopicPartition]Position
