package sink

import (
	"context"
	"log/slog"
	"time"
)

// A Sink stores records. The partitions of a consumer write at once, so its
// methods must be safe for concurrent use.
//
// A failure concerns only the partitions of one file, for example. All others
// continue.
type Sink interface {
	// Resume opens and locks what the sink holds of a partition, and returns what its
	// ledger says of it. It is called before the partition's first Write of a
	// generation, and again after [ErrReopen]. What the group has committed keeps the
	// sink from cutting off records that will not come again; nil is unknown.
	Resume(ctx context.Context, tp TopicPartition, committed Commits) (Ledger, error)

	// Adopt sets where a partition continues, before its first record: the ledger
	// holds it from now on, and the next good Flush makes that durable. The ledger's
	// ID is id from now on. A sink without a ledger does nothing.
	Adopt(ctx context.Context, tp TopicPartition, id string, p Position) error

	// Encode appends r to dst in the sink's format. It neither waits nor fails,
	// keeps nothing of r, and allocates only to make dst grow.
	Encode(dst []byte, r *Record) []byte

	// Room is how many bytes the next chunk of a partition should hold, so that a
	// file can be completed at its size: the caller ends a chunk with the record that
	// reaches it. 0 is no limit.
	Room(tp TopicPartition) int

	// Write stores a chunk. Nil means accepted, not yet safe. After an error nothing
	// of the chunk is in the sink, and the caller writes all of it again, or, if the
	// error wraps [ErrReopen], calls Resume. It does not keep the chunk's bytes. It
	// returns ctx's error when it has to wait and ctx ends, and the cause when ctx ends
	// between two pieces of a large record; it cannot interrupt a system call that hangs.
	Write(ctx context.Context, c Chunk) error

	// Flush returns nil when everything accepted before the call is as safe as the
	// sink promises. A [*FlushError] names the partitions of which this is not true;
	// it is for all others. After any other error it is true for none.
	Flush(ctx context.Context) error

	// Update changes, without a pause, what may change in a running sink
	// (durability, mode, rotation, compression). spec is of the same kind and
	// differs from the one in force in nothing else.
	Update(spec Spec) error

	// Release lets go of what the sink holds for single partitions, for another
	// member may be assigned them. It is called at the end of a generation, after the
	// last Write and Flush.
	Release() error

	// Close flushes and releases everything. It is called once, after the last call
	// of any other method has returned. The sink is released even if it errs. end says
	// that the consumer ends, and not the agent alone: nothing more is to come, so
	// files that would be completed later are completed now.
	Close(end bool) error
}

// Options are what a sink needs beside its spec.
type Options struct {
	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is the real clock

	// Consumer and Group say whose sink it is. What another group has reached says
	// nothing about this one, and files of another consumer are not touched.
	Consumer, Group string
	// Due, if not nil, is called when a Flush is due although nothing may have
	// been written, for a file is to be completed. It must not block.
	Due func()
}
