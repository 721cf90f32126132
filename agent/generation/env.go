package generation

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"kcagent/agent/group"
	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/config"
	"kcagent/sink"
)

// An Env is what a generation uses of its consumer. Everything in it outlives the
// generation. All fields are required.
type Env struct {
	Log         *slog.Logger                     // names the consumer
	Spec        *atomic.Pointer[config.Consumer] // the settings in force; see [Generation.ApplySpec]
	Sink        sink.Sink
	Cluster     *kafka.Cluster
	Client      *group.Client // the connection to the coordinator
	Gate        *Gate         // shut while the consumer is paused
	Stats       *Stats
	History     *History
	FlushDue    <-chan struct{} // the sink requests a flush, even if nothing was written
	RemindEvery time.Duration   // how often a condition that lasts is logged again
	Observer    Observer
}

// An Observer follows a generation. Its methods are called from several goroutines and
// may block until the consumer's own goroutine has received the previous calls.
type Observer interface {
	Joined(g *Generation)            // the generation has its partitions; faults reported before are obsolete
	Positioned()                     // every partition has a position that survives a crash
	Clean()                          // the gate is shut, and everything that the sink accepted is committed
	Left()                           // the generation is over
	Report(origin string, err error) // origin fails with err, or works again if err is nil
}

// A History is what a consumer remembers from one generation to the next. Each part says
// which goroutine may use it.
type History struct {
	Baseline offsets.Baseline
	held     offsets.Held
	copies   offsets.LedgerCopies
	holes    holes
}

// NewHistory returns the history of a consumer that has had no generation.
func NewHistory() History { return History{holes: make(holes)} }

// Origins of faults that concern a consumer as a whole.
const (
	OriginGroup  = "group"
	OriginSink   = "sink"
	originCommit = "commit"
)

// A SinkError is an error of the sink rather than of Kafka.
type SinkError struct{ Err error }

func (e SinkError) Error() string { return e.Err.Error() }

func (e SinkError) Unwrap() error { return e.Err }

// Causes for which a generation is ended before the group requires it.
var (
	ErrTopicsChanged  = errors.New("topics to subscribe to have changed")
	ErrClusterChanged = errors.New("the cluster at the addresses is not the one in which the group was joined")
)
