// Package leader has the type of leader epochs, which the fetcher, the agent and the sinks
// share.
package leader

import (
	"math"
	"strconv"
)

// An Epoch is the leader epoch of records of a partition: the number of the leader election
// after which they were written (KIP-101). The zero value is unknown, so that a position
// without an epoch is never compared with the epochs of a leader.
type Epoch struct{ plusOne int32 }

// Unknown is the epoch of a position before the first consumed record, or of records in a
// format without epochs.
var Unknown Epoch

// NewEpoch returns the epoch with Kafka's number; a negative one is unknown.
func NewEpoch(kafka int32) Epoch { return Epoch{min(max(kafka, -1), math.MaxInt32-1) + 1} }

// Kafka returns Kafka's number: -1 for an unknown epoch.
func (e Epoch) Kafka() int32 { return e.plusOne - 1 }

// Known reports whether the epoch is known.
func (e Epoch) Known() bool { return e.plusOne > 0 }

// String returns the number, or "unknown".
func (e Epoch) String() string {
	if !e.Known() {
		return "unknown"
	}
	return strconv.Itoa(int(e.Kafka()))
}

// MarshalJSON implements [encoding/json.Marshaler]. Unknown epochs are left out by
// omitzero.
func (e Epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, int64(e.Kafka()), 10), nil
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (e *Epoch) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil {
		return err
	}
	*e = NewEpoch(int32(n))
	return nil
}
