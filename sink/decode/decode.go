// Package decode checks that keys and values are in the encoding that the configuration
// names, so that the JSON format can embed them.
package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"kcagent/sink"
)

// A Part is the part of a record that an [Error] is about.
type Part string

// The parts of a record that are decoded.
const (
	Key   Part = "key"
	Value Part = "value"
)

// An Error says why a record cannot be decoded. Another attempt has the same result.
type Error struct {
	Part Part
	Err  error
}

// Error names the part and what is wrong with it. It never contains the record's bytes,
// because they may be confidential.
func (e *Error) Error() string { return fmt.Sprintf("%s is not valid JSON: %v", e.Part, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A Decoder says which parts of a record are JSON. The zero value decodes nothing.
type Decoder struct{ Key, Value bool }

// Decode checks the parts that are JSON, and marks them for the JSON format. A null key or
// value is JSON's null. If the error, an [*Error], is not nil, nothing is marked.
func (d Decoder) Decode(r *sink.Record) error {
	r.KeyJSON, r.ValueJSON = false, false
	if d.Key && r.Key != nil {
		if err := check(r.Key); err != nil {
			return &Error{Key, err}
		}
	}
	if d.Value && r.Value != nil {
		if err := check(r.Value); err != nil {
			return &Error{Value, err}
		}
	}
	r.KeyJSON, r.ValueJSON = d.Key, d.Value
	return nil
}

var (
	errEmpty = errors.New("it is empty")
	errUTF8  = errors.New("it contains invalid UTF-8")
)

// check returns why b is not one JSON value. json.Valid accepts invalid UTF-8 in texts, which
// many readers of the file would reject.
func check(b []byte) error {
	switch {
	case json.Valid(b) && utf8.Valid(b):
		return nil
	case json.Valid(b):
		return errUTF8
	case len(bytes.TrimSpace(b)) == 0:
		return errEmpty
	}
	var v json.RawMessage
	err := json.Unmarshal(b, &v)
	if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		// The text of a SyntaxError quotes a character of the record.
		return fmt.Errorf("syntax error at byte %d", at.Offset)
	}
	return err
}
