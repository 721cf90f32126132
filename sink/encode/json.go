package encode

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kcagent/sink"
)

// A jsonEncoder appends the envelope, which is one line for every record.
type jsonEncoder struct {
	start []byte // the envelope up to the offset
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
	dst = appendTime(dst, r.Time)
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

// appendBytes appends a member of an object: "name":"text" for valid UTF-8,
// "name_base64":"…" for other bytes, "name":null for nil.
func appendBytes(dst []byte, name string, b []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	switch {
	case b == nil:
		return append(dst, `":null`...)
	case utf8.Valid(b):
		dst = append(dst, `":"`...)
		dst = appendEscaped(dst, b)
	default:
		dst = append(dst, `_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, b)
	}
	return append(dst, '"')
}

// appendEscaped appends valid UTF-8 as the content of a JSON string.
func appendEscaped(dst, b []byte) []byte {
	n := cleanPrefix(b)
	dst = append(dst, b[:n]...)
	b = b[n:]
	for len(b) >= 8 {
		if cap(dst)-len(dst) < escapedWord {
			dst = slices.Grow(dst, escapedWord+len(b))
		}
		dst = appendWord(dst, binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, c := range b {
		if mustEscape(c) {
			dst = appendEscape(dst, c)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// escapedWord is how many bytes appendWord needs: eight escapes, and eight bytes that it
// stores after them.
const escapedWord = 8*len(`\u0000`) + 8

// appendWord escapes eight bytes, the lowest first. A value that is itself JSON has a quote
// every few bytes. To append each short run with a call costs twice as much as to store all
// remaining bytes each time, and to keep those before the next escape.
func appendWord(dst []byte, word uint64) []byte {
	buf, n, left := dst[:cap(dst)], len(dst), 8
	for hits := escapeMask(word); hits != 0; {
		binary.LittleEndian.PutUint64(buf[n:], word)
		shift := bits.TrailingZeros64(hits) &^ 7
		n += shift / 8
		left -= shift/8 + 1
		if c := byte(word >> shift); c >= 0x20 {
			buf[n], buf[n+1] = '\\', c
			n += 2
		} else {
			n = len(appendEscape(buf[:n], c))
		}
		word = word >> shift >> 8
		hits = hits >> shift >> 8
	}
	binary.LittleEndian.PutUint64(buf[n:], word)
	return buf[:n+left]
}

func appendEscape(dst []byte, c byte) []byte {
	const digits = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}

// cleanPrefix returns the length of the prefix of b that needs no escaping in a JSON string:
// no quote, backslash or control character.
func cleanPrefix(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if hits := escapeMask(binary.LittleEndian.Uint64(b[i:])); hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i < len(b); i++ {
		if mustEscape(b[i]) {
			return i
		}
	}
	return i
}

func mustEscape(c byte) bool { return c < 0x20 || c == '"' || c == '\\' }

// escapeMask is mustEscape for eight bytes at once: it sets the top bit of each byte that
// must be escaped. A byte is 0 if neither its top bit is set nor adding 0x7f to its lower
// bits sets that bit. x^'"' is 0 for a quote, and x&^0x1f for a control character.
func escapeMask(word uint64) uint64 {
	const (
		ones = 0x0101010101010101
		tops = 0x80 * ones
		rest = 0x7f * ones
	)
	quote, slash, control := word^('"'*ones), word^('\\'*ones), word&^(0x1f*ones)
	quote |= quote&rest + rest
	slash |= slash&rest + rest
	control |= control&rest + rest
	return ^(quote & slash & control) & tops
}

// firstTime and lastTime limit what RFC 3339 can express. Producers may send any number of
// milliseconds; a time outside the limits is written as the nearer limit.
const (
	firstTime = `"0000-01-01T00:00:00.000Z"`
	lastTime  = `"9999-12-31T23:59:59.999Z"`
)

// appendTime appends t as RFC 3339 in UTC with milliseconds. The zero time, which is a
// record without a timestamp, is null.
func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	t = t.UTC()
	year, month, day := t.Date()
	switch {
	case year < 0:
		return append(dst, firstTime...)
	case year > 9999:
		return append(dst, lastTime...)
	}
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	dst = appendTwo(appendTwo(dst, year/100), year%100)
	dst = appendTwo(append(dst, '-'), int(month))
	dst = appendTwo(append(dst, '-'), day)
	dst = appendTwo(append(dst, 'T'), hour)
	dst = appendTwo(append(dst, ':'), minute)
	dst = appendTwo(append(dst, ':'), second)
	ms := t.Nanosecond() / int(time.Millisecond)
	dst = appendTwo(append(dst, '.', byte('0'+ms/100)), ms%100)
	return append(dst, `Z"`...)
}

func appendTwo(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }
