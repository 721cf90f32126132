package sink

import (
	"context"
	"errors"
	"time"

	"kcagent/leader"
)

// A Commit is what a group commits of a partition: a position and, with a sink that publishes by
// plan, what is published next.
type Commit struct {
	Position
	// Plan, if not nil, begins at Position.Next, and names the records that are published once
	// the commit has succeeded.
	Plan *Plan
	// Nonce differs in each commit of a sink that publishes by plan, so that an agent that did
	// not receive the result of its commit can recognise it. It is "" with other sinks.
	// With a plan, it is the nonce of the plan.
	Nonce string
}

// A Plan names a range of offsets of one partition whose records are published together: each
// under a key that follows from the record, the range and the settings alone. So every agent that
// reads the plan publishes the same objects.
type Plan struct {
	Nonce       string
	First, Next int64        // the range [First, Next)
	Epoch       leader.Epoch // of the record at Next-1; unknown if there is none
	Records     int64        // that the sink accepted
	// Settings are all settings that decide about keys and records. Keys are short lower-case
	// names. The sink sets its own in Plan; the agent adds those with which it reads.
	Settings map[string]string
}

// ErrPlan is the error of Complete of a sink that does not publish by plan.
var ErrPlan = errors.New("an open plan can only be completed by an objects sink")

// Objects says what a sink holds for objects that are not published yet.
type Objects struct {
	Spool      int64 // bytes in the spool folder
	Open       int   // objects that grow: one per partition and window
	Partitions map[TopicPartition]PartitionObjects
}

// PartitionObjects are the objects of one partition that are not published yet.
type PartitionObjects struct {
	First   int64     // first offset of the range that grows
	Records int64     // in that range
	Bytes   int64     // of its objects, compressed
	Objects int       // of the range
	Since   time.Time // when the range got its first record; zero if it has none
	DueAt   time.Time // when the range is closed because of its age; zero if it has no record
	Closed  *Upload   // the range that is closed and not published yet; nil if there is none
}

// An Upload is a closed range, or one whose plan was found in the group and whose records are read
// again.
type Upload struct {
	First, Next int64
	Records     int64 // of the plan, if it was found in the group
	Bytes       int64
	Objects     int       // of the range, as far as its records are read
	Uploaded    int       // of these objects
	Planned     bool      // the plan is committed
	Since       time.Time // when the range was closed, or its plan was found
	Retry       time.Time // when a failed upload is tried again; zero if none failed
	Error       string    // why the last upload failed; "" if none did
}

// Unplanned implements the methods of [Sink] that only sinks that publish by plan need. A sink
// that makes records durable in Flush embeds it.
type Unplanned struct{}

// Complete implements [Sink].
func (Unplanned) Complete(context.Context, TopicPartition, Position, Plan) error { return ErrPlan }

// Plan implements [Sink].
func (Unplanned) Plan(_ TopicPartition, accepted Position) Commit { return Commit{Position: accepted} }

// Publish implements [Sink].
func (Unplanned) Publish(TopicPartition, Commit) {}

// Objects implements [Sink].
func (Unplanned) Objects() Objects { return Objects{} }

// AnyTime implements Encoder.Window of formats and sinks that do not depend on timestamps.
type AnyTime struct{}

// Window implements [Encoder].
func (AnyTime) Window(time.Time) Window { return Window{} }
