package encode

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"kcagent/sink"
)

// A jsonEncoder appends the envelope, which is one line for every record.
type jsonEncoder struct {
	sink.AnyTime
	start []byte // the envelope up to the offset
	clock clock
}

func newJSON(tp sink.TopicPartition) sink.Encoder {
	return &jsonEncoder{start: appendStart(nil, tp)}
}

// ValueOnly implements [sink.Encoder].
func (e *jsonEncoder) ValueOnly() bool { return false }

// appendStart appends the envelope up to the offset, which is the same for all records of a
// partition.
func appendStart(dst []byte, tp sink.TopicPartition) []byte {
	dst = append(dst, `{"topic":`...)
	dst = appendTopic(dst, tp.Topic)
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(tp.Partition), 10)
	return append(dst, `,"offset":`...)
}

// Append implements [sink.Encoder].
func (e *jsonEncoder) Append(dst []byte, r *sink.Record) []byte {
	dst = append(dst, e.start...)
	dst = strconv.AppendInt(dst, r.Offset, 10)
	dst = append(dst, `,"timestamp":`...)
	dst = e.clock.appendTime(dst, r.Time)
	dst = append(dst, ',')
	dst = appendField(dst, "key", r.Key, r.KeyJSON)
	dst = append(dst, ',')
	dst = appendField(dst, "value", r.Value, r.ValueJSON)
	dst = append(dst, `,"headers":[`...)
	for i := range r.Headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendHeader(dst, &r.Headers[i])
	}
	return append(dst, "]}\n"...)
}

// appendHeader appends one header. Kafka has no null header key, so a nil key is an empty
// one.
func appendHeader(dst []byte, h *sink.Header) []byte {
	key := h.Key
	if key == nil {
		key = []byte{}
	}
	dst = append(dst, '{')
	dst = appendBytes(dst, "key", key)
	dst = append(dst, ',')
	dst = appendBytes(dst, "value", h.Value)
	return append(dst, '}')
}

// appendTopic appends the name of a topic. The names that Kafka allows need no escaping. Any
// other name is converted to valid UTF-8.
func appendTopic(dst []byte, topic string) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = append(dst, topic...)
	if name := dst[start:]; !utf8.Valid(name) || cleanPrefix(name) < len(name) {
		dst = appendEscaped(dst[:start], []byte(strings.ToValidUTF8(topic, "\uFFFD")))
	}
	return append(dst, '"')
}

// appendField appends a key or a value: as it is if it is JSON, else as appendBytes.
func appendField(dst []byte, name string, b []byte, isJSON bool) []byte {
	if !isJSON || b == nil {
		return appendBytes(dst, name, b)
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return appendOneLine(dst, b)
}

// appendOneLine appends a JSON value as one line. A line break in it is between two tokens,
// because in a string it would be escaped, so a space has the same meaning.
func appendOneLine(dst, b []byte) []byte {
	start := len(dst)
	dst = append(dst, b...)
	for i, c := range dst[start:] {
		if c == '\n' || c == '\r' {
			dst[start+i] = ' '
		}
	}
	return dst
}
