package sink

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// ErrReopen marks an error after which the records of a partition that were accepted since
// the last good Flush are no longer in the sink. Write and Flush fail for the partition
// until Resume is called. The partition continues at the position that Resume returns, or,
// if the sink keeps no ledger, at the last good Flush.
//
// A failed fsync is such an error. The kernel may have dropped dirty pages, and a second
// fsync on the same descriptor would not report that (Rebello et al., "Can Applications
// Recover from fsync Failures?", USENIX ATC 2020).
var ErrReopen = errors.New("records that were not flushed will be fetched again")

// ErrReadAgain says that a part of a chunk is in the sink already. The caller reads the chunk again,
// within Limits.
var ErrReadAgain = errors.New("a part of the chunk was written before")

// A FlushError lists the partitions whose records a Flush did not make durable.
type FlushError struct {
	Failed map[TopicPartition]error
}

// Error lists each cause once: the partitions of one file fail together.
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

// PartitionError returns what the error of a Flush says about a partition; nil if the Flush has
// succeeded for it. An error that is no [FlushError] concerns all partitions.
func PartitionError(err error, tp TopicPartition) error {
	if each, ok := errors.AsType[*FlushError](err); ok {
		return each.Failed[tp]
	}
	return err
}

// Unwrap returns the errors of the partitions.
func (e *FlushError) Unwrap() []error { return slices.Collect(maps.Values(e.Failed)) }
