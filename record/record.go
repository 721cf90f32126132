// Package record has the type of a Kafka record, which the fetcher reads and sinks write.
package record

import "time"

// A Record is one Kafka record. A nil key or value is Kafka's null. The function that hands over a
// record says who owns its bytes, and how long they are valid.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time // zero if the record has no timestamp
	Key       []byte
	Value     []byte
	Headers   []Header

	// KeyJSON and ValueJSON say that Key and Value are each one JSON value in valid UTF-8,
	// which the JSON format embeds as it is.
	KeyJSON, ValueJSON bool
}

// A Header is one header of a record.
type Header struct{ Key, Value []byte }
