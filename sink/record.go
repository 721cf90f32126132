package sink

import "time"

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
