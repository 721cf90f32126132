package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/record"
)

// referenceRecord reads the record at the beginning of b field by field, as KIP-98 describes it.
func referenceRecord(b []byte) (r record.Record, delta int64, size int, err error) {
	left := b
	bad := false
	number := func() int64 {
		n, size := binary.Varint(left)
		if size <= 0 {
			bad = true
			return 0
		}
		left = left[size:]
		return n
	}
	text := func() []byte {
		n := number()
		if bad || n < 0 {
			return nil
		}
		if n > int64(len(left)) {
			bad = true
			return nil
		}
		text := left[:n]
		left = left[n:]
		return text
	}
	length := number()
	if bad || length <= 0 || length > int64(len(left)) {
		return r, 0, 0, errMalformed
	}
	size = len(b) - len(left) + int(length)
	left = left[1:length]
	delta, r.Offset = number(), number()
	r.Key, r.Value = text(), text()
	headers := number()
	if !bad && headers > maxHeaders {
		return r, delta, size, errHeaders
	}
	for ; headers > 0 && !bad; headers-- {
		r.Headers = append(r.Headers, record.Header{Key: text(), Value: text()})
	}
	if bad {
		return r, delta, size, errMalformed
	}
	return r, delta, size, nil
}

// sameRecord compares two records. A null is not the same as an empty text.
func sameRecord(a, b *record.Record) bool {
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	return a.Offset == b.Offset && a.Time.Equal(b.Time) && a.Time.IsZero() == b.Time.IsZero() && same(a.Key, b.Key) && same(a.Value, b.Value) &&
		slices.EqualFunc(a.Headers, b.Headers, func(a, b record.Header) bool { return same(a.Key, b.Key) && same(a.Value, b.Value) })
}

// checkRecords compares how the records of data are read, one by one and at once, with the reference.
// Records before from are skipped.
func checkRecords(t *testing.T, data []byte, count int, from int64, sameTime bool) {
	t.Helper()
	start := Batch{data: data, count: count, base: 100, from: from, baseTime: 1000, sameTime: sameTime}
	var want []record.Record
	var wantErr error
	var wantValues []byte
	next := from
	for left := data; count > 0; count-- {
		r, delta, size, err := referenceRecord(left)
		if wantErr = err; err != nil {
			break
		}
		left = left[size:]
		if r.Offset += start.base; r.Offset < next {
			continue
		}
		next = r.Offset + 1
		if sameTime {
			delta = 0
		}
		r.Time = timestamp(start.baseTime + delta)
		want = append(want, r)
		wantValues = append(append(wantValues, r.Value...), '\n')
	}
	if wantErr == nil {
		next = 1 << 40
	}
	p := Part{batches: []Batch{start}, Next: 1 << 40}
	n := 0
	at, err := p.Each(func(r *Record) bool {
		if n == len(want) || !sameRecord(&r.Record, &want[n]) {
			t.Fatalf("Each of %x: record %d is %v, want %v", data, n, r.Record, want[n:])
		}
		n++
		return true
	})
	if n != len(want) || !errors.Is(err, wantErr) || at != next {
		t.Fatalf("Each of %x: %d records, next %d, %v; want %d, next %d, %v", data, n, at, err, len(want), next, wantErr)
	}
	p = Part{batches: []Batch{start}, Next: 1 << 40}
	v := Values{}
	at, handOver, err := p.AppendValues(&v, ValueLimits{Data: 1 << 40, Record: 1 << 40})
	if !bytes.Equal(v.Data, wantValues) || handOver || !errors.Is(err, wantErr) || at != next {
		t.Fatalf("AppendValues of %x: got %q, next %d, %v; want %q, next %d, %v", data, v.Data, at, err, wantValues, next, wantErr)
	}
}

// randomRecords returns n records whose numbers have from one to ten bytes.
func randomRecords(random *rand.Rand, n int) (data []byte) {
	number := func() int64 { return random.Int64() >> random.IntN(64) * int64(1-2*random.IntN(2)) }
	text := func() []byte {
		if random.IntN(4) == 0 {
			return nil
		}
		return bytes.Repeat([]byte{'v'}, random.IntN([]int{4, 70, 9000}[random.IntN(20)/9]))
	}
	for i := range n {
		r := kmsg.Record{TimestampDelta64: number(), OffsetDelta: int32(i * (1 + random.IntN(200))), Key: text(), Value: text()}
		if random.IntN(3) == 0 {
			for range random.IntN(70) {
				r.Headers = append(r.Headers, kmsg.Header{Key: string(text()), Value: text()})
			}
		}
		r.Length = 0
		body := r.AppendTo(nil)[1:] // without the length
		if random.IntN(10) == 0 {
			body = append(body, make([]byte, random.IntN(4))...) // Kafka allows further bytes
		}
		data = append(binary.AppendVarint(data, int64(len(body))), body...)
	}
	return data
}

// TestRecordsAreReadAsTheFormatSays compares records with a reader that follows KIP-98 field by field:
// whole ones, and ones with a byte changed, added or removed.
func TestRecordsAreReadAsTheFormatSays(t *testing.T) {
	for _, number := range []int64{-1, -2, -9000, -20_000, -1 << 40, 9000, 1 << 40} { // a negative length is null
		for field := range 5 {
			body := []byte{0}
			for i := range 5 {
				n := int64(0)
				if i == field {
					n = number
				}
				body = binary.AppendVarint(body, n)
			}
			checkRecords(t, append(binary.AppendVarint(nil, int64(len(body))), body...), 1, 0, false)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		n := 1 + random.IntN(6)
		data := randomRecords(random, n)
		from := int64(random.IntN(300))
		checkRecords(t, data, n, from, random.IntN(2) == 0)
		checkRecords(t, data, n+1, from, false)
		for range 40 {
			bad := slices.Clone(data)
			switch at := min(random.IntN(len(bad)), random.IntN(len(bad)), random.IntN(len(bad))); random.IntN(4) {
			case 0:
				bad[at] = byte(random.Uint32())
			case 1:
				bad[at] ^= 1 << random.IntN(8)
			case 2:
				bad = slices.Insert(bad, at, byte(random.Uint32()))
			default:
				bad = bad[:at]
			}
			checkRecords(t, bad, n, from, false)
		}
	}
}

// FuzzRecords compares any bytes with the reference.
func FuzzRecords(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 3 {
		f.Add(randomRecords(random, n), uint8(n), int64(0), false)
	}
	f.Add([]byte{14, 0, 0, 0, 1, 2, 'x', 0}, uint8(1), int64(100), true)
	f.Fuzz(func(t *testing.T, data []byte, count uint8, from int64, sameTime bool) {
		checkRecords(t, data, int(count), max(0, from), sameTime)
	})
}
