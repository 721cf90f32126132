package encode

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// appendBytes appends a member of an object: "name":"text" for valid UTF-8,
// "name_base64":"…" for other bytes, "name":null for nil.
func appendBytes(dst []byte, name string, b []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	if b == nil {
		return append(dst, `":null`...)
	}
	if text, ok := appendText(append(dst, `":"`...), b); ok {
		return append(text, '"')
	}
	dst = append(dst, `_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendText appends b as the content of a JSON string. ok is false if b is not valid UTF-8. Then
// dst is still what it was, although bytes behind it may have changed.
//
// Only the part of b from the first byte that is not ASCII on is checked for valid UTF-8.
func appendText(dst, b []byte) (text []byte, ok bool) {
	n := plainPrefix(b)
	text, b = append(dst, b[:n]...), b[n:]
	for len(b) > 0 {
		word, size := uint64(0), 8
		if len(b) >= 8 {
			word = binary.LittleEndian.Uint64(b)
		} else {
			word, size = lastWord(b), len(b)
		}
		if word&tops != 0 {
			if !utf8.Valid(b) {
				return dst, false
			}
			return appendEscaped(text, b), true
		}
		if cap(text)-len(text) < escapedWord {
			text = slices.Grow(text, escapedWord+len(b))
		}
		text = appendWord(text, word)
		text, b = text[:len(text)-8+size], b[size:]
	}
	return text, true
}

// lastWord returns the bytes of b, which are fewer than eight, the first one lowest, and spaces
// above them.
func lastWord(b []byte) uint64 {
	word := uint64(' ' * ones)
	for _, c := range slices.Backward(b) {
		word = word<<8 | uint64(c)
	}
	return word
}

// Eight bytes as one number: n times ones has n in each.
const (
	ones = 0x0101010101010101
	tops = 0x80 * ones
	rest = 0x7f * ones
)

// plainPrefix returns the length of a prefix of b in steps of eight that is ASCII and needs no
// escaping.
func plainPrefix(b []byte) (n int) {
	for left := b; len(left) >= 32; left = left[32:] {
		w0, w1 := binary.LittleEndian.Uint64(left), binary.LittleEndian.Uint64(left[8:])
		w2, w3 := binary.LittleEndian.Uint64(left[16:]), binary.LittleEndian.Uint64(left[24:])
		if notPlain(w0)|notPlain(w1)|notPlain(w2)|notPlain(w3) != 0 {
			break
		}
		n += 32
	}
	for left := b[n:]; len(left) >= 8; left = left[8:] {
		if notPlain(binary.LittleEndian.Uint64(left)) != 0 {
			break
		}
		n += 8
	}
	return n
}

// notPlain returns 0 if eight bytes are ASCII and need no escaping. It is faster than
// escapeMask, but does not say which byte is not plain. x^2 moves the quote right behind the control
// characters, so that one subtraction sets the top bit for either; x^'\\' is 0 for a backslash, and
// subtracting 1 sets it. A byte that is not ASCII keeps its top bit in at least one of the two.
func notPlain(word uint64) uint64 {
	return (((word ^ 2*ones) - ('"'-1)*ones) | ((word ^ '\\'*ones) - ones)) & tops
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
	quote, slash, control := word^('"'*ones), word^('\\'*ones), word&^(0x1f*ones)
	quote |= quote&rest + rest
	slash |= slash&rest + rest
	control |= control&rest + rest
	return ^(quote & slash & control) & tops
}
