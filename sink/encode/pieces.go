package encode

import (
	"encoding/base64"
	"strconv"
	"sync"
	"unicode/utf8"

	"kcagent/sink"
)

// A large record is not encoded as a whole, because JSON can be six times as long as the
// record. It is encoded in pieces, which are written one after the other. They are still
// one chunk: nothing else is written between them, no mark covers some of them, and an
// error cuts all of them off.

const (
	// pieceBytes is about how long a piece is.
	pieceBytes = 128 << 10
	// escapedBytes is how much of a text becomes one piece: each byte may become six.
	escapedBytes = 16 << 10
	// base64Bytes is how much binary data becomes one piece: whole groups of three.
	base64Bytes = pieceBytes / 4 * 3
)

// pieceBuffers hold one piece.
var pieceBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, pieceBytes+pieceBytes/8)
	return &b
}}

// Pieces passes the encoded form of a record to put, piece by piece. Together the pieces
// are what the format's encoder appends. put must not keep them.
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

// A pieceWriter gathers pieces until they are worth a write. After an error it does nothing.
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

// reserve makes room for n bytes.
func (p *pieceWriter) reserve(n int) {
	if len(p.buf)+n > cap(p.buf) {
		p.flush()
	}
}

func (p *pieceWriter) text(s string) {
	p.reserve(len(s))
	p.buf = append(p.buf, s...)
}

// raw hands bytes over as they are.
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

// json does what appendJSON does.
func (p *pieceWriter) json(r *sink.Record) {
	p.buf = append(p.buf, `{"topic":`...)
	p.buf = appendTopic(p.buf, r.Topic)
	p.buf = append(p.buf, `,"partition":`...)
	p.buf = strconv.AppendInt(p.buf, int64(r.Partition), 10)
	p.buf = append(p.buf, `,"offset":`...)
	p.buf = strconv.AppendInt(p.buf, r.Offset, 10)
	p.buf = append(p.buf, `,"timestamp":`...)
	p.buf = appendTime(p.buf, r.Time)
	p.text(`,"key`)
	p.member(r.Key)
	p.text(`,"value`)
	p.member(r.Value)
	p.text(`,"headers":[`)
	for i, h := range r.Headers {
		if i > 0 {
			p.text(",")
		}
		if h.Key == nil {
			h.Key = []byte{} // like appendHeader
		}
		p.text(`{"key`)
		p.member(h.Key)
		p.text(`,"value`)
		p.member(h.Value)
		p.text("}")
	}
	p.text("]}\n")
}

// member does what appendBytes does after the name.
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

// wholeRunes is the length of the longest prefix of valid UTF-8 of n bytes at most that ends
// after a whole character.
func wholeRunes(b []byte, n int) int {
	if len(b) <= n {
		return len(b)
	}
	for !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}
