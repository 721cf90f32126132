package partition

import (
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/leader"
)

// A Policy says where a subscription continues when its position is out of range, or when the log
// was truncated.
type Policy int

// The policies.
const (
	Fail     Policy = iota // nowhere: the subscription fails with an [OutOfRangeError] or a [TruncatedError]
	Earliest               // at the start of the log
	Latest                 // at the end of the log
)

// An OutOfRangeError reports that a position is not in the log of its partition.
type OutOfRangeError struct {
	Topic      string
	Partition  int32
	Offset     int64 // the position
	Start, End int64 // of the log; End is the offset after the last record
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %s/%d is out of range, the partition holds [%d, %d), and on_offset_out_of_range is fail: "+
		"choose earliest or latest, or stop the consumer and reset the group's offsets",
		e.Offset, e.Topic, e.Partition, e.Start, e.End)
}

// Unwrap returns Kafka's error.
func (e *OutOfRangeError) Unwrap() error { return sarama.ErrOffsetOutOfRange }

// A TruncatedError reports that the leader's log does not have the records that were consumed
// before a position.
type TruncatedError struct {
	Topic     string
	Partition int32
	Offset    int64        // the position
	Epoch     leader.Epoch // of the last record before the position
	// Diverging is the offset at which the leader's log diverges from the records that were
	// consumed; -1 if they have no epoch in common.
	Diverging int64
	Leader    leader.Epoch // of the current leader
	To        int64        // where the subscription continues; -1 if nowhere, because of [Fail]
}

func (e *TruncatedError) Error() string {
	at := fmt.Sprintf("diverges at offset %d from what was consumed up to offset %d", e.Diverging, e.Offset)
	then := fmt.Sprintf("to continue at offset %d", e.Diverging)
	if e.Diverging < 0 {
		at = fmt.Sprintf("has no leader epoch in common with what was consumed up to offset %d", e.Offset)
		then = "to continue at the start or end of the log"
	}
	return fmt.Sprintf("log of %s/%d was truncated: it %s in leader epoch %s, the leader epoch is now %s, and on_offset_out_of_range is fail: "+
		"choose earliest or latest %s, or stop the consumer and reset the group's offsets",
		e.Topic, e.Partition, at, e.Epoch, e.Leader, then)
}

// Unwrap returns Kafka's error.
func (e *TruncatedError) Unwrap() error { return sarama.ErrOffsetOutOfRange }

// A RecreatedError reports that a topic was deleted and created again under the same name, so that
// positions in it have lost their meaning.
type RecreatedError struct{ Topic string }

func (e *RecreatedError) Error() string {
	return fmt.Sprintf("topic %q was deleted and recreated", e.Topic)
}
