package sink

import "kcagent/leader"

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

// Empty reports whether the chunk holds no record, and moves the position alone.
func (c *Chunk) Empty() bool { return len(c.Data) == 0 && c.Large == nil }
