// Package sink defines what a sink is: the place to which the records of a consumer are
// written.
//
// It holds the contract between a kind of sink and its caller ([Sink]), the types that
// both exchange ([Record], [Chunk], [Position], [Ledger]), and the settings of every kind
// ([Spec]). It opens nothing: package kinds lists the kinds and opens them, and each kind
// is a package of its own, such as file and stdout. Package sinktest tests the part of the
// contract that all kinds have in common.
//
// # The contract
//
// A consumer encodes records, collects them in chunks of one partition, and writes the
// chunks. A nil error of Write means that the sink has accepted the records, not that they
// are durable. Flush makes durable what was accepted before; then the consumer commits the
// offsets. So three rules hold for every kind of sink:
//
//   - After an error of Write, nothing of the chunk is in the sink. The consumer writes the
//     same records again.
//   - After a Flush without an error, everything that was accepted before is as durable as
//     the sink promises. After an error that wraps [ErrReopen], the records since the last
//     good Flush are gone: the consumer calls Resume and fetches them again.
//   - A failure of one partition does not stop the others.
//
// A sink that can say which records it holds keeps a ledger: for each partition the offset
// after the last record. Resume returns it, and the consumer continues there if the
// committed offset is behind. This is how a sink stores each record exactly once, although
// Kafka may redeliver records after a crash. A sink without a ledger returns a [Ledger]
// without an ID, and stores each record at least once.
//
// Start reading at [Sink].
package sink
