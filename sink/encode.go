package sink

import (
	"fmt"
	"strings"
)

// An encoder appends one record, newline included, to dst. It keeps nothing of
// the record and allocates only to make dst grow.
type encoder func(dst []byte, r *Record) []byte

func encoderOf(f Format) (encoder, error) {
	switch f {
	case Raw:
		return appendRaw, nil
	case JSON:
		return appendJSON, nil
	}
	return nil, fmt.Errorf("format %q is unknown: use %s", string(f), strings.Join(f.Values(), " or "))
}

// appendRaw writes the value as it is. A null value is an empty line, and a
// value that holds newlines is several: who needs to tell them apart needs the
// JSON format.
func appendRaw(dst []byte, r *Record) []byte {
	dst = append(dst, r.Value...)
	return append(dst, '\n')
}
