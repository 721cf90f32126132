package batch

import (
	"encoding/binary"

	"kcagent/record"
)

// A layout is where the fields of one record lie in the bytes of its batch. Indexes count from the
// beginning of the record.
type layout struct {
	end             int   // of the record
	time, offset    int64 // relative to the time and the offset of the batch
	key, keyEnd     int   // key is -1 if it is null
	value, valueEnd int   // value is -1 if it is null
	headers         int64 // how many there are; none if it is negative
	rest            int   // where the headers begin
}

// locate reads the layout of the record at the beginning of b (KIP-98). It returns false if the
// record is malformed. It does not read the headers.
//
// Nearly all numbers have one or two bytes. locate reads such a record in one piece, without a call
// for each number: it checks only afterwards that no number was longer, and that all lay within
// the record. Any other record is read again, step by step.
func (l *layout) locate(b []byte) bool {
	const most = 9 // bytes of the numbers before the key, and of the attributes
	if len(b) < most {
		return l.locateAny(b)
	}
	length, i := shortNumber(b, 0)
	end := i + int(length>>1)
	time, i := shortNumber(b, i+1) // behind the attributes, which are unused
	offset, i := shortNumber(b, i)
	key, i := shortNumber(b, i)
	l.key, l.keyEnd = -1, -1
	if key&1 == 0 {
		l.key = i
		i += int(key >> 1)
		l.keyEnd = i
	}
	if i+2 > len(b) {
		return l.locateAny(b)
	}
	value, i := shortNumber(b, i)
	l.value, l.valueEnd = -1, -1
	if value&1 == 0 {
		l.value = i
		i += int(value >> 1)
		l.valueEnd = i
	}
	if (length|time|offset|key|value) > maxShort || length&1 != 0 || i >= end || end > len(b) || b[i] > 0x7f {
		return l.locateAny(b)
	}
	l.time, l.offset, l.headers = zigzag(time), zigzag(offset), zigzag(uint64(b[i]))
	l.rest, l.end = i+1, end
	return true
}

// maxShort is the largest number of two bytes, before [zigzag].
const maxShort = 1<<14 - 1

// shortNumber reads a number of one or two bytes at i. If it has more bytes, the result is larger
// than maxShort.
func shortNumber(b []byte, i int) (n uint64, next int) {
	if n = uint64(b[i]); n < 0x80 {
		return n, i + 1
	}
	return n&0x7f | uint64(b[i+1])<<7, i + 2
}

// zigzag returns the number that n encodes.
func zigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }

// locateAny is locate for numbers of any length.
func (l *layout) locateAny(b []byte) (ok bool) {
	length, i := binary.Varint(b)
	if i <= 0 || length <= 0 || length > int64(len(b)-i) {
		return false
	}
	l.end = i + int(length)
	in := fieldReader{b: b[:l.end], i: i + 1} // behind the attributes, which are unused
	l.time = in.number()
	l.offset = in.number()
	l.key, l.keyEnd = in.bytes()
	l.value, l.valueEnd = in.bytes()
	l.headers = in.number()
	l.rest = in.i
	return !in.malformed
}

// appendHeaders appends the n headers at the beginning of b. Its error is errMalformed or
// errHeaders.
func appendHeaders(dst []record.Header, b []byte, n int64) ([]record.Header, error) {
	if n > maxHeaders {
		return dst, errHeaders
	}
	in := fieldReader{b: b}
	for ; n > 0 && !in.malformed; n-- {
		dst = append(dst, record.Header{Key: in.slice(), Value: in.slice()})
	}
	if in.malformed {
		return dst, errMalformed
	}
	return dst, nil
}

// checkHeaders returns the error of appendHeaders.
func checkHeaders(b []byte, n int64) error {
	if n > maxHeaders {
		return errHeaders
	}
	in := fieldReader{b: b}
	for ; n > 0 && !in.malformed; n-- {
		in.bytes()
		in.bytes()
	}
	if in.malformed {
		return errMalformed
	}
	return nil
}

// A fieldReader reads the fields of a record. Once it is malformed, results have no meaning.
type fieldReader struct {
	b         []byte
	i         int // index of the next field in b
	malformed bool
}

// number reads a number.
func (r *fieldReader) number() int64 {
	if r.i < len(r.b) && r.b[r.i] < 0x80 { // most are small
		n := r.b[r.i]
		r.i++
		return zigzag(uint64(n))
	}
	n, size := binary.Varint(r.b[r.i:])
	if size <= 0 {
		r.malformed = true
		return 0
	}
	r.i += size
	return n
}

// bytes reads a length and as many bytes, and returns where they begin and end. start is -1 if the
// length is negative, which means null.
func (r *fieldReader) bytes() (start, end int) {
	n := r.number()
	if n < 0 {
		return -1, -1
	}
	if n > int64(len(r.b)-r.i) {
		r.malformed = true
		return -1, -1
	}
	start = r.i
	r.i += int(n)
	return start, r.i
}

// slice returns what bytes reads.
func (r *fieldReader) slice() []byte {
	start, end := r.bytes()
	if start < 0 {
		return nil
	}
	return r.b[start:end:end]
}
