package sink

import (
	"context"
	"log/slog"
	"time"
)

// A Sink stores the records of a consumer. Several partitions call it at the same time, so
// its methods are safe for concurrent use.
//
// An error concerns one partition, or the partitions that share a file. The others continue.
type Sink interface {
	// Resume opens and locks the storage of a partition, and returns the partition's entry
	// in the ledger. It is called before the first Write of a generation, and again after
	// [ErrReopen]. The sink uses committed, the positions that the group has committed, to
	// reject a ledger that is too old: otherwise it would truncate records that Kafka does
	// not redeliver. If committed is nil, they are unknown.
	Resume(ctx context.Context, tp TopicPartition, committed Commits) (Ledger, error)

	// Adopt sets where a partition continues, before its first record. The next good Flush
	// makes the new entry durable. The ledger's ID is id from now on. A sink without a
	// ledger does nothing.
	Adopt(ctx context.Context, tp TopicPartition, id string, p Position) error

	// Encoder returns a new encoder for the records of a partition. It neither blocks nor
	// fails.
	Encoder(tp TopicPartition) Encoder

	// Room returns how many bytes the next chunk of a partition should have, so that a file
	// can be completed at its configured size: the caller ends a chunk with the record that
	// reaches it. 0 is no limit.
	Room(tp TopicPartition) int

	// Write stores a chunk. A nil error means that the records are accepted, not that they
	// are durable. After an error, nothing of the chunk is in the sink: the caller writes
	// all of it again, or, if the error wraps [ErrReopen], calls Resume. Write does not
	// retain the chunk.
	//
	// If Write has to wait, it returns the error of ctx when ctx ends. It returns the cause
	// of ctx if ctx ends between two pieces of a large record. It cannot interrupt a system
	// call.
	Write(ctx context.Context, c Chunk) error

	// Flush makes durable, as far as the sink promises, what was accepted before the call. A
	// [*FlushError] lists the partitions that failed; for all others it has succeeded. After
	// any other error it has succeeded for none.
	Flush(ctx context.Context) error

	// Update applies a spec of the same kind to the running sink. Only settings that may
	// change without reopening it differ: durability, mode, rotation and compression.
	Update(spec Spec) error

	// Release closes what the sink holds for single partitions, because another member may
	// be assigned them. It is called at the end of a generation, after the last Write and
	// Flush.
	Release() error

	// Close flushes and closes the sink, also if it returns an error. It is called once,
	// after the last call of any other method has returned. end says that the consumer is
	// removed, and not only that the agent stops: then files that would be completed later
	// are completed now.
	Close(end bool) error
}

// An Encoder encodes the records of one partition in the form in which its sink stores them. It
// may keep state, so only one goroutine at a time may use it. It stays valid until the sink is closed,
// also after an Update.
type Encoder interface {
	// Append appends r to dst. It neither blocks nor fails, retains nothing of r, and
	// allocates only to grow dst.
	Append(dst []byte, r *Record) []byte

	// ValueOnly reports whether Append appends only the value and a newline. The caller may
	// then do this itself, many records at a time.
	ValueOnly() bool
}

// Options are what a sink needs in addition to its spec.
type Options struct {
	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is the real clock

	// Consumer and Group own the sink. The positions of another group do not apply to it,
	// and files of another consumer are not changed.
	Consumer, Group string
	// Due, if not nil, is called when a Flush is due although nothing may have been written,
	// because a file is to be completed. It must not block.
	Due func()
}
