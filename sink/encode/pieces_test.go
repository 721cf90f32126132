package encode

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kcagent/sink"
)

// checkPieces checks that pieces are small, end after a character, and together are what the
// encoder appends.
func checkPieces(t *testing.T, r *sink.Record) {
	t.Helper()
	for _, f := range []sink.Format{sink.Raw, sink.JSON} {
		var got []byte
		err := Pieces(f, r, func(p []byte) error {
			if len(p) == 0 || len(p) > 2*pieceBytes && len(r.Topic) < 1000 || f == sink.JSON && !r.ValueJSON && !r.KeyJSON && !utf8.Valid(p) {
				t.Errorf("%s: a piece has %d bytes, or ends within a character", f, len(p))
			}
			got = append(got, p...)
			return nil
		})
		if want := appendRecord(nil, f, r); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes, want %d; %v", f, len(got), len(want), err)
		}
	}
}

// FuzzPieces checks that the pieces of a record are its encoded form. Values are repeated,
// so that they are longer than a piece.
func FuzzPieces(f *testing.F) {
	f.Add("orders", []byte("key"), []byte("\x00"), []byte("h"), []byte("é\"\\\n𝄞"), uint32(100_000), uint8(0))
	f.Add("orders", []byte("\xff"), []byte("a\xff\x00"), []byte("𝄞"), []byte{}, uint32(50_000), uint8(5))
	f.Add("\"\xff", []byte("é𝄞x"), []byte("é𝄞x"), []byte("\xc3"), []byte("ab"), uint32(16<<10), uint8(8))
	f.Add("t", []byte("1"), []byte("[1,\n2]\r"), []byte("h"), []byte("h"), uint32(180_000), uint8(48))
	f.Fuzz(func(t *testing.T, topic string, key, value, hkey, hvalue []byte, times uint32, nulls uint8) {
		n := int(times % 200_000)
		for i, b := range []*[]byte{&key, &value, &hvalue} {
			if nulls&(1<<i) != 0 {
				*b = nil
			} else if *b = bytes.Repeat(*b, n*(1+i)/(8*(1+len(*b)))+1); *b == nil {
				*b = []byte{}
			}
		}
		r := sink.Record{Topic: topic, Partition: 3, Offset: 42, Time: time.UnixMilli(int64(times)), Key: key, Value: value}
		r.KeyJSON, r.ValueJSON = nulls&16 != 0 && utf8.Valid(key), nulls&32 != 0 && utf8.Valid(value)
		if nulls&8 == 0 {
			r.Headers = []sink.Header{{Key: hkey, Value: hvalue}, {Key: hvalue, Value: hkey}}
		}
		checkPieces(t, &r)
	})
}

// TestPiecesOfAnyRecord compares random records whose lengths are near the limits of pieces.
func TestPiecesOfAnyRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	alphabets := []string{"a", "\x00", "\"a", "é", "𝄞", "a𝄞é\n", "\xff", "ab\xfe"}
	text := func() []byte {
		size := []int{0, 1, 2, 100, escapedBytes, base64Bytes, pieceBytes}[random.IntN(7)]
		a := alphabets[random.IntN(len(alphabets))]
		return []byte(strings.Repeat(a, size/len(a)+random.IntN(4)))
	}
	for range 300 {
		r := sink.Record{Topic: "orders", Key: text(), Value: text()}
		if random.IntN(8) == 0 {
			r.Value = nil
		}
		for range random.IntN(3) {
			r.Headers = append(r.Headers, sink.Header{Key: text(), Value: text()})
		}
		checkPieces(t, &r)
	}
}
