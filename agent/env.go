package agent

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"kcagent/config"
	"kcagent/sink"
)

// An env is what a generation uses of its consumer. Everything in it outlives the
// generation.
type env struct {
	log         *slog.Logger                     // names the consumer
	spec        *atomic.Pointer[config.Consumer] // the settings in force; see [generation.applySpec]
	sink        sink.Sink
	cluster     *cluster
	client      *groupClient // the connection to the coordinator
	gate        *gate        // shut while the consumer is paused
	stats       *stats
	history     *history
	flushDue    <-chan struct{} // the sink requests a flush, even if nothing was written
	remindEvery time.Duration   // how often a condition that lasts is logged again
	observer    observer
}

// An observer follows a generation. Its methods are called from several goroutines and
// may block until the consumer's own goroutine has received the previous calls.
type observer interface {
	Joined(g *generation)            // the generation has its partitions; faults reported before are obsolete
	Positioned()                     // every partition has a position that survives a crash
	Clean()                          // the gate is shut, and everything that the sink accepted is committed
	Left()                           // the generation is over
	Report(origin string, err error) // origin fails with err, or works again if err is nil
}

// A history is what a consumer remembers from one generation to the next. Each part says
// which goroutine may use it.
type history struct {
	baseline partitionBaseline
	held     heldPartitions
	copies   ledgerCopies
	holes    holes
}

func newHistory() history { return history{holes: make(holes)} }

// Origins of faults that concern a consumer as a whole.
const (
	originGroup  = "group"
	originSink   = "sink"
	originCommit = "commit"
)

// A sinkError is an error of the sink rather than of Kafka.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

// Causes for which a generation is ended before the group requires it.
var (
	errResubscribe = errors.New("the topics to subscribe to have changed")
	errMoved       = errors.New("another cluster is at the addresses than when the group was joined")
)
