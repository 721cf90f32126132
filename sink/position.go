package sink

import "kcagent/leader"

// An Identity distinguishes a topic from another topic of the same name, on another cluster
// or recreated. Cluster and Topic are opaque, and empty if the broker is too old to report
// them.
type Identity struct {
	Cluster string `json:"cluster"` // the cluster's id
	Topic   string `json:"id"`      // the topic's id (KIP-516, Kafka 2.8)
	// Brokers is a hash of the addresses of the cluster; "" if unknown. It distinguishes a
	// consumer that was moved to another cluster from a new cluster at the same addresses.
	Brokers string `json:"brokers,omitempty"`
}

// A Position is where a partition continues.
type Position struct {
	// Next is the offset after the last record in the sink; -1 if the ledger has no entry
	// for the partition.
	Next int64
	// Lineage is another string after the offsets of the partition could go back: because
	// something other than an agent set the committed offset, or because the topic was
	// recreated. Within one lineage offsets only grow, so the larger of two positions is
	// right.
	Lineage string
	// Topic is the topic of Next. Without an entry, it may name the cluster of the other
	// entries of the file.
	Topic Identity
	// Epoch is the leader epoch of the last record before Next, or unknown. It lets the
	// leader of the partition detect that its log was truncated.
	Epoch leader.Epoch
}

// A Ledger is the entry of one partition in a sink's ledger.
type Ledger struct {
	// ID distinguishes the ledger from all others of the consumer group. It is "" if the
	// sink keeps no ledger; then only the committed offset says where the partition
	// continues.
	ID string
	// Planned says that the sink publishes by plan: what it has published is what the group has
	// committed. ID is "" then.
	Planned bool
	// Windows says that the sink keeps a ledger for each of several files, one for each window of
	// time. Adopt is called before the first record, and the sink drops the records that it has
	// already after what the group has committed. ID is "" then.
	Windows bool
	Position
}

// Commits returns the positions that the group has committed under the ID of a ledger.
type Commits func(ledger string) map[TopicPartition]Position
