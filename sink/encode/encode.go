// Package encode turns records into bytes, in the formats that every kind of sink offers.
//
// [For] returns an encoder for a format. [Pieces] encodes a record that is too large to be
// encoded as a whole. Both produce the same bytes.
package encode

import (
	"fmt"
	"strings"

	"kcagent/sink"
)

// An Encoder appends one record to dst, with a newline. It retains nothing of the record and
// allocates only to grow dst.
type Encoder func(dst []byte, r *sink.Record) []byte

// For returns the encoder of a format.
func For(f sink.Format) (Encoder, error) {
	switch f {
	case sink.Raw:
		return appendRaw, nil
	case sink.JSON:
		return appendJSON, nil
	}
	return nil, fmt.Errorf("unknown format %q: use %s", string(f), strings.Join(f.Values(), " or "))
}

// appendRaw appends the value as it is. A null value is an empty line, and a value with
// newlines is several lines. A reader that has to tell them apart needs the JSON format.
func appendRaw(dst []byte, r *sink.Record) []byte {
	dst = append(dst, r.Value...)
	return append(dst, '\n')
}
