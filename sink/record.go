package sink

import "kcagent/record"

// A Record is one Kafka record. Its slices belong to the caller.
type Record = record.Record

// A Header is one header of a record.
type Header = record.Header
