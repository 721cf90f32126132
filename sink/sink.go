// Package sink is where records go: the kinds of sink, their formats, and what
// each promises about the safety of what it accepted.
//
// # Exactly once in a file
//
// A file sink with [ExactlyOnce] keeps a ledger of its file: for each partition the
// offset after the last record in the file. Its durable form is the checkpoint in
// <path>+checkpoint, which says which file holds the records, by inode and birth time,
// and up to which length the file is complete and safe. This is why the file then holds
// each record once, in order within its partition, whatever crashes, the process or the
// machine, and however often.
//
// A flush does these steps in order, while records are appended to the file:
//
//  1. mark: note the file's length and, at the same moment, the ledger.
//  2. sync the file: everything up to the mark is on the disk.
//  3. write the mark over the older of the two checkpoints in the side file, and sync
//     that. Each has a sequence number and a checksum over both, so of the former
//     checkpoint and the new one a crash leaves one, whole, and from now on the new one.
//
// Only then the caller commits the offsets of the mark to the broker. So a flush
// syncs twice; neither sync changes a name or a folder.
//
// Two invariants hold at every moment:
//
//   - I1: the durable checkpoint is true. The first length bytes of the file it
//     names, and the complete files before it, are durable and hold exactly the
//     records below its offsets, each once and in order. True after the first
//     checkpoint, of an empty ledger; kept by each flush, for the file is only
//     appended to, in the order in which the offsets grow, length and offsets are
//     noted under the lock that an append holds (1), and the bytes are durable
//     before the checkpoint is written (2 before 3).
//   - I2: the committed offset never passes the checkpoint, for it is committed
//     after (3). So a record that the broker will not bring again is in front of
//     the length.
//
// A start locks the side file before it looks at anything, reads the newer checkpoint
// and makes that durable once more where it is, for the process before may have died
// before its sync. It cuts the file to the length, and continues at the offsets of the
// ledger or at the committed ones, whichever are further. What was cut off has
// offsets at or above the checkpoint's, so Kafka brings it again; what stays is below
// them, so Kafka is not asked for it. By I1 each record is in the file once again. If
// the start itself is interrupted, the next one does the same: cutting twice to the
// same length is cutting once.
//
// # Which file is whose
//
// No byte is written to a file before a durable checkpoint names it, and before the
// folder that names the file is synced: else a crash could bring back another file
// under the same name. A file is cut only if it is the one in the checkpoint:
//
//   - The same inode and birth time: it is the file, wherever it was moved within its
//     folder. It is cut if it holds what the checkpoint says in front of the length; if
//     it does not, that is an error with the next step.
//   - Another inode, but what the checkpoint says in front of the length: a copy that was
//     restored. It is continued. Content is never looked at to tell two files apart that
//     both exist: records may repeat.
//   - Anything else that is not empty is another program's file, and an error.
//
// A file that was moved, and lies beside a checkpoint or is locked, is another writer's
// by now and is left alone.
//
// # Completing a file
//
// A file that is full or old keeps its name while it grows, and gets its final name when
// it is complete, so that whatever ships files can tell the two apart. Three steps, each
// durable before the next has consequences: the file is synced; a checkpoint says that it
// is done and that no file grows; it is renamed, never over another file. The next file
// is created with the next record. A crash between the steps leaves the path naming a
// file that is either still the growing one of the checkpoint, or the done one, by inode
// and birth time; the next start continues the first, and renames the second. Only one
// file is without its final name at any time, so there is nothing to guess. The other
// design, to give the growing file its final name at birth and let the path be a link to
// it, needs no rename, but leaves readers unable to see which file is complete.
//
// # Where the argument ends
//
// It ends where the machine does: a disk that loses what a sync reported as written, and
// durability none, which leaves out the syncs and so covers crashes of the process alone.
// A checkpoint that was stored under durability none says so: if a power loss has left
// less than it says, that is a warning and the file is continued. Which offset wins if
// something else moved the group's, an operator or another host, is decided by the caller
// from the metadata of the commit and the [Ledger].
package sink

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"kcagent/leader"
)

// A Record is one Kafka record. Its slices belong to the caller.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time
	Key       []byte // nil is Kafka's null
	Value     []byte // nil is Kafka's null
	Headers   []Header
}

// A Header is one header of a record.
type Header struct{ Key, Value []byte }

// A TopicPartition names one partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// A Chunk is encoded records of one partition, in order.
type Chunk struct {
	TopicPartition
	Data  []byte       // whole records as the sink's Encode made them; none moves the position alone
	Last  int          // where the last record begins in Data
	Next  int64        // the offset after them
	Epoch leader.Epoch // of the last record before Next
	// Large, if not nil, is a single record in place of Data. The sink encodes it while it
	// writes it, in pieces, so that it needs no memory for the whole.
	Large *Record
}

func (c *Chunk) empty() bool { return len(c.Data) == 0 && c.Large == nil }

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

// ErrReopen marks an error after which the records of a partition that were
// accepted since the last good Flush are not in the sink any more. Every Write
// and Flush fails for the partition until Resume was called; it continues where
// that says, or, if there is no ledger, where the last good Flush was.
//
// A failed fsync is one: it may have dropped dirty pages, and a second fsync on
// the same descriptor would not report that (Rebello et al., "Can Applications
// Recover from fsync Failures?", USENIX ATC 2020).
var ErrReopen = errors.New("records that were not safe are read from Kafka again")

// A FlushError says which partitions a Flush did not make safe.
type FlushError struct {
	Failed map[TopicPartition]error
}

// Error names each cause once: the partitions of one file fail together.
func (e *FlushError) Error() string {
	var causes []string
	for _, err := range e.Failed {
		if c := err.Error(); !slices.Contains(causes, c) {
			causes = append(causes, c)
		}
	}
	slices.Sort(causes)
	return strings.Join(causes, "; ")
}

// Unwrap returns the errors of the partitions.
func (e *FlushError) Unwrap() []error { return slices.Collect(maps.Values(e.Failed)) }

// Options are what a sink needs beside its spec.
type Options struct {
	Log *slog.Logger     // nil discards
	FS  FS               // nil is the real file system
	Now func() time.Time // nil is the real clock

	// Consumer and Group say whose sink it is. What another group has reached says
	// nothing about this one, and files of another consumer are not touched.
	Consumer, Group string
	// Due, if not nil, is called when a Flush is due although nothing may have
	// been written, for a file is to be completed. It must not block.
	Due func()

	files *openFiles // nil is those of the process
}

// Open opens the sink that spec describes. Files are opened (and their folders
// made) with the first record of their partition, except where the path holds
// no placeholder: then at once, so that a bad path shows before any record.
func Open(ctx context.Context, spec Spec, o Options) (Sink, error) {
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.files == nil {
		o.files = processFiles
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case spec.File != nil:
		return openFile(ctx, *spec.File, o)
	case spec.Stdout != nil:
		return openStdout(*spec.Stdout)
	}
	return nil, errors.New("open sink: no kind is set")
}

// Kind is the name of the kind that is set: "file" or "stdout".
func (s Spec) Kind() string {
	switch {
	case s.File != nil:
		return "file"
	case s.Stdout != nil:
		return "stdout"
	}
	return ""
}

// String names the sink for people and for status, such as
// "file:/data/orders.log".
func (s Spec) String() string {
	if s.File != nil {
		return "file:" + s.File.Path
	}
	return s.Kind()
}
