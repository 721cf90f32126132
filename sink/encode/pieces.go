package encode

import (
	"encoding/base64"
	"strconv"
	"sync"
	"unicode/utf8"

	"kcagent/sink"
)

// A large record is not encoded as a whole, because its JSON can be six times as long as the
// record. It is encoded in pieces, which are written one after the other. They are still one
// chunk: nothing is written between them, no flush covers only some of them, and after an
// error all of them are truncated.

const (
	// pieceBytes is the approximate length of a piece.
	pieceBytes = 128 << 10
	// escapedBytes is how much of a text becomes one piece. Each byte may become six.
	escapedBytes = 16 << 10
	// base64Bytes is how much binary data becomes one piece, in groups of three bytes.
	base64Bytes = pieceBytes / 4 * 3
)

// pieceBuffers are buffers for one piece.
var pieceBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, pieceBytes+pieceBytes/8)
	return &b
}}

// Pieces encodes a record piece by piece, and calls put with each piece. Together the pieces
// are what the encoder of the format appends. put must not retain them. Pieces returns the
// first error of put.
func Pieces(f sink.Format, r *sink.Record, put func([]byte) error) error {
	buf := pieceBuffers.Get().(*[]byte)
	defer pieceBuffers.Put(buf)
	p := pieceWriter{buf: (*buf)[:0], put: put}
	if f == sink.Raw {
		p.raw(r.Value)
		p.text("\n")
	} else {
		p.json(r)
	}
	p.flush()
	return p.err
}

// A pieceWriter collects bytes until they are worth a write. After an error it does nothing.
type pieceWriter struct {
	buf []byte
	put func([]byte) error
	err error
}

func (p *pieceWriter) flush() {
	if p.err == nil && len(p.buf) > 0 {
		p.err = p.put(p.buf)
	}
	p.buf = p.buf[:0]
}

// reserve makes space for n bytes in the buffer.
func (p *pieceWriter) reserve(n int) {
	if len(p.buf)+n > cap(p.buf) {
		p.flush()
	}
}

func (p *pieceWriter) text(s string) {
	p.reserve(len(s))
	p.buf = append(p.buf, s...)
}

// raw appends bytes as they are.
func (p *pieceWriter) raw(b []byte) {
	if len(b) > pieceBytes/8 {
		p.flush()
	}
	for len(b) > pieceBytes/8 && p.err == nil {
		n := min(len(b), pieceBytes)
		p.err = p.put(b[:n])
		b = b[n:]
	}
	p.reserve(len(b))
	p.buf = append(p.buf, b...)
}

// json writes what a jsonEncoder appends.
func (p *pieceWriter) json(r *sink.Record) {
	p.buf = appendStart(p.buf, sink.TopicPartition{Topic: r.Topic, Partition: r.Partition})
	p.buf = strconv.AppendInt(p.buf, r.Offset, 10)
	p.buf = append(p.buf, `,"timestamp":`...)
	p.buf = new(clock).appendTime(p.buf, r.Time)
	p.text(`,"key`)
	p.field(r.Key, r.KeyJSON)
	p.text(`,"value`)
	p.field(r.Value, r.ValueJSON)
	p.text(`,"headers":[`)
	for i, h := range r.Headers {
		if i > 0 {
			p.text(",")
		}
		if h.Key == nil {
			h.Key = []byte{} // as in appendHeader
		}
		p.text(`{"key`)
		p.member(h.Key)
		p.text(`,"value`)
		p.member(h.Value)
		p.text("}")
	}
	p.text("]}\n")
}

// field writes what appendField appends after the name.
func (p *pieceWriter) field(b []byte, isJSON bool) {
	if !isJSON || b == nil {
		p.member(b)
		return
	}
	p.text(`":`)
	for len(b) > 0 && p.err == nil {
		n := min(len(b), pieceBytes)
		p.reserve(n)
		p.buf = appendOneLine(p.buf, b[:n])
		b = b[n:]
	}
}

// member writes what appendBytes appends after the name.
func (p *pieceWriter) member(b []byte) {
	switch {
	case b == nil:
		p.text(`":null`)
		return
	case utf8.Valid(b):
		p.text(`":"`)
		for len(b) > 0 && p.err == nil {
			n := wholeRunes(b, escapedBytes)
			p.reserve(6*n + escapedWord)
			p.buf = appendEscaped(p.buf, b[:n])
			b = b[n:]
		}
	default:
		p.text(`_base64":"`)
		for len(b) > 0 && p.err == nil {
			n := min(len(b), base64Bytes)
			p.reserve(base64.StdEncoding.EncodedLen(n))
			p.buf = base64.StdEncoding.AppendEncode(p.buf, b[:n])
			b = b[n:]
		}
	}
	p.text(`"`)
}

// wholeRunes returns the length of the longest prefix of b, which is valid UTF-8, that has
// at most n bytes and ends after a character.
func wholeRunes(b []byte, n int) int {
	if len(b) <= n {
		return len(b)
	}
	for !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}
