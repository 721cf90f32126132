// Package encode turns records into bytes, in the formats that every kind of sink offers.
//
// [For] returns the encoders of a format. [Pieces] encodes a record that is too large to be
// encoded as a whole. Both produce the same bytes.
package encode

import (
	"fmt"
	"strings"

	"kcagent/sink"
)

// Encoders returns an encoder for the records of a partition. It may be called concurrently.
type Encoders func(tp sink.TopicPartition) sink.Encoder

// For returns the encoders of a format. They append each record with a newline.
func For(f sink.Format) (Encoders, error) {
	switch f {
	case sink.Raw:
		return func(sink.TopicPartition) sink.Encoder { return raw{} }, nil
	case sink.JSON:
		return newJSON, nil
	}
	return nil, fmt.Errorf("unknown format %q: use %s", string(f), strings.Join(f.Values(), " or "))
}

// raw appends the value as it is. A null value is an empty line, and a value with newlines is
// several lines. A reader that has to tell them apart needs the JSON format.
type raw struct{ sink.AnyTime }

// Append implements [sink.Encoder].
func (raw) Append(dst []byte, r *sink.Record) []byte {
	dst = append(dst, r.Value...)
	return append(dst, '\n')
}

// ValueOnly implements [sink.Encoder].
func (raw) ValueOnly() bool { return true }
