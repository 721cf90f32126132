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
	// makes the new entry durable. The ledger's ID is id from now on. A sink that keeps no
	// ledger and publishes by plan begins a range at the position.
	Adopt(ctx context.Context, tp TopicPartition, id string, p Position) error

	// Complete is like Adopt, for a partition whose committed offset has a plan: the sink
	// publishes exactly the records of the plan, by the settings of the plan. p.Next is
	// plan.First. The caller writes the records from there on, until its position is plan.Next.
	// Once their objects are uploaded, Plan returns the position plan.Next. The caller calls
	// Resume before it writes further records. A sink that does not publish by plan returns
	// [ErrPlan].
	Complete(ctx context.Context, tp TopicPartition, p Position, plan Plan) error

	// Encoder returns a new encoder for the records of a partition. It neither blocks nor
	// fails.
	Encoder(tp TopicPartition) Encoder

	// Limits returns what the next chunk of a partition may have. ok is false if the sink takes
	// no chunk of the partition now, because it waits for an upload. The sink calls Options.Ready
	// once it takes chunks again.
	Limits(tp TopicPartition) (l Limits, ok bool)

	// Write stores a chunk. A nil error means that the records are accepted, not that they
	// are durable. After an error, nothing of the chunk is in the sink: the caller writes
	// all of it again, or, if the error wraps [ErrReopen], calls Resume. After [ErrReadAgain], it
	// reads the chunk again first. Write does not retain the chunk.
	//
	// If Write has to wait, it returns the error of ctx when ctx ends. It returns the cause
	// of ctx if ctx ends between two pieces of a large record. It cannot interrupt a system
	// call.
	Write(ctx context.Context, c Chunk) error

	// Flush makes durable, as far as the sink promises, what was accepted before the call. A
	// [*FlushError] lists the partitions that failed; for all others it has succeeded. After
	// any other error it has succeeded for none.
	//
	// A sink that publishes by plan closes the ranges that are complete, or, if all is set,
	// every range that has a record. It does not wait for uploads. It reports an upload that
	// failed and is retried, in each Flush until the upload has succeeded.
	Flush(ctx context.Context, all bool) error

	// Plan returns what the group is to commit of a partition after a good Flush. accepted is
	// the position that the Flush covers. A sink that does not publish by plan returns it.
	//
	// A sink that publishes by plan returns the position up to which records are published
	// and, if the next range is closed, its plan. It returns the same until Publish is called
	// with it. Next is -1 if the sink has no position of the partition, because Resume or Release
	// was called last: nothing may be committed then, because the group may have a plan.
	Plan(tp TopicPartition, accepted Position) Commit

	// Publish says that the group has committed c, which Plan has returned; it may be called
	// again with the same c. The caller also calls it without another commit if c has no plan,
	// and the group has committed the position of c already. If c has a plan, the sink uploads
	// the objects of the plan in a goroutine of its own, and calls Options.Due when Plan has the
	// next commit, or when an upload has failed. Publish must not be called while the result of
	// the commit is unknown.
	Publish(tp TopicPartition, c Commit)

	// Objects returns what the sink holds for objects that are not published yet. A sink
	// without objects returns the zero value. It may be called at any time, also during and
	// after Close, and waits for no upload.
	Objects() Objects

	// Update applies a spec of the same kind to the running sink. Only settings that may
	// change without reopening it differ: durability, mode, rotation and compression.
	Update(spec Spec) error

	// Release closes what the sink holds for single partitions, because another member may
	// be assigned them. It is called at the end of a generation, after the last Write and
	// Flush. Uploads in progress are cancelled, and what is not published is dropped.
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

	// Window returns the timestamps of the records that belong to the same file or object as a
	// record of time t, at least those around t. All records of a chunk are of one window.
	Window(t time.Time) Window
}

// A Window is an interval of timestamps: From <= t < To. The zero value has all of them, and
// records without a timestamp.
type Window struct{ From, To time.Time }

// Unlimited reports whether the window has all timestamps.
func (w Window) Unlimited() bool { return w == Window{} }

// Has reports whether t is in the window.
func (w Window) Has(t time.Time) bool {
	return w.Unlimited() || !t.Before(w.From) && t.Before(w.To)
}

// Limits say what the next chunk of a partition may have.
type Limits struct {
	// Bytes: the caller ends the chunk with the record that reaches it, so that a file can be
	// completed at its configured size. 0 means no limit.
	Bytes int
	// Before: the chunk has no record at or after this offset, and its Next is not beyond it. 0
	// means no limit.
	Before int64
}

// Options are what a sink needs in addition to its spec.
type Options struct {
	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is the real clock

	// Consumer and Group own the sink. The positions of another group do not apply to it,
	// and files of another consumer are not changed.
	Consumer, Group string
	// Due, if not nil, is called when a Flush is due although nothing may have been written,
	// because a file is to be completed, or an upload has ended. It must not block.
	Due func()
	// Ready, if not nil, is called when a partition for which Limits returned false takes chunks
	// again. It must not block.
	Ready func(tp TopicPartition)
	// Uploaded, if not nil, is called for each object that was uploaded, with its size in bytes
	// and how long the upload took. It must not block.
	Uploaded func(bytes int64, took time.Duration)
	// Version is the version of the agent, for the metadata of objects.
	Version string
}
