package sink

import (
	"time"

	"kcagent/leader"
)

// A TopicPartition names one partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// A Chunk is a number of encoded records of one partition, in the order of their offsets.
type Chunk struct {
	TopicPartition
	Data  []byte       // whole records, encoded by an Encoder of the sink; empty if only the position advances
	Last  int          // index in Data at which the last record begins
	Next  int64        // the offset after the last record
	Epoch leader.Epoch // of the last record before Next
	Count int          // number of records
	// Time is the timestamp of the first record; zero if it has none. All records of the chunk
	// are of its window, see [Encoder].
	Time time.Time
	// Large, if not nil, is a single record in place of Data. The sink encodes it in pieces
	// while it writes it, so it needs no memory for the whole encoded record.
	Large *Record
	// DeadLetters are the records between the records of the chunk that cannot be decoded,
	// each as a chunk of its own. Only a sink with a second sink for them gets any.
	DeadLetters []Chunk
}

// Empty reports whether the chunk holds no record, so that only the position advances.
func (c *Chunk) Empty() bool { return len(c.Data) == 0 && c.Large == nil }
