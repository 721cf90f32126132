package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/limits"
)

// A batchSpec describes a record batch to build.
type batchSpec struct {
	base       int64
	values     []string
	last       int32 // offset delta; 0: of the last value
	attributes int16
	producer   int64
	epoch      int32
	raw        []byte // instead of values
	count      int32
}

func (s batchSpec) bytes() []byte {
	var records []byte
	for i, v := range s.values {
		r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: int64(i), Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // of one byte
		records = r.AppendTo(records)
	}
	b := kmsg.RecordBatch{
		FirstOffset: s.base, PartitionLeaderEpoch: s.epoch, Magic: 2, Attributes: s.attributes, LastOffsetDelta: max(s.last, int32(len(s.values)-1)),
		FirstTimestamp: 1000, MaxTimestamp: 5000, ProducerID: s.producer, NumRecords: int32(len(s.values)), Records: records,
	}
	if s.raw != nil {
		b.Records, b.NumRecords = s.raw, s.count
	}
	return seal(b.AppendTo(nil))
}

// seal sets the length and the checksum.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

func decodeAll(t *testing.T, raw []byte, pos int64, aborted ...kmsg.FetchResponseTopicPartitionAbortedTransaction) (got []string, c Content, next int64, err error) {
	t.Helper()
	fr := NewFrame(1)
	c = Decode(fr, largeAllowance(), &kmsg.FetchResponseTopicPartition{RecordBatches: raw, AbortedTransactions: aborted}, pos, sarama.ReadCommitted)
	p := Part{batches: slices.Clone(c.batches), Next: c.Next}
	next, err = p.Each(func(r *Record) bool {
		ms := int64(-1)
		if !r.Time.IsZero() {
			ms = r.Time.UnixMilli()
		}
		got = append(got, fmt.Sprintf("%d@%d=%s", r.Offset, ms, r.Value))
		return true
	})
	fr.Release()
	return got, c, next, err
}

func TestDecode(t *testing.T) {
	const transactional, control, appendTime = 0x10, 0x20, 0x08
	commit, abort := []byte{20, 0, 0, 0, 8, 0, 0, 0, 1, 1, 0}, []byte{20, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0}
	aborted := func(producer, first int64) kmsg.FetchResponseTopicPartitionAbortedTransaction {
		return kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: producer, FirstOffset: first}
	}
	for _, tt := range []struct {
		name    string
		batches []batchSpec
		pos     int64
		aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
		want    []string
		next    int64
	}{
		{"in the middle of a batch", []batchSpec{{base: 5, values: []string{"a", "b", "c"}}}, 6, nil, []string{"6@1001=b", "7@1002=c"}, 8},
		{"a batch before the position", []batchSpec{{base: 0, values: []string{"a"}}, {base: 1, values: []string{"b"}}}, 1, nil, []string{"1@1000=b"}, 2},
		{"gaps of compaction", []batchSpec{{base: 0, values: []string{"a"}, last: 9}, {base: 20, values: []string{"b"}}}, 0, nil, []string{"0@1000=a", "20@1000=b"}, 21},
		{"a batch that compaction has emptied", []batchSpec{{base: 0, last: 9}}, 0, nil, nil, 10},
		{"the broker's time", []batchSpec{{base: 0, values: []string{"a", "b"}, attributes: appendTime}}, 0, nil, []string{"0@5000=a", "1@5000=b"}, 2},
		{"transaction markers", []batchSpec{
			{base: 0, values: []string{"a"}, attributes: transactional, producer: 7},
			{base: 1, attributes: transactional | control, producer: 7, raw: commit, count: 1},
		}, 0, nil, []string{"0@1000=a"}, 2},
		{
			"interleaved transactions",
			[]batchSpec{
				{base: 0, values: []string{"bad1"}, attributes: transactional, producer: 7},
				{base: 1, values: []string{"good1"}, attributes: transactional, producer: 8},
				{base: 2, values: []string{"plain"}},
				{base: 3, values: []string{"bad2"}, attributes: transactional, producer: 7},
				{base: 4, attributes: transactional | control, producer: 7, raw: abort, count: 1},
				{base: 5, values: []string{"good2"}, attributes: transactional, producer: 7},
				{base: 6, attributes: transactional | control, producer: 8, raw: commit, count: 1},
				{base: 7, values: []string{"bad3"}, attributes: transactional, producer: 8},
			},
			0,
			[]kmsg.FetchResponseTopicPartitionAbortedTransaction{aborted(8, 7), aborted(7, 0)},
			[]string{"1@1000=good1", "2@1000=plain", "5@1000=good2"},
			8,
		},
		{"an abort marker whose header is missing", []batchSpec{
			{base: 0, attributes: transactional | control, producer: 7, raw: []byte{20, 0, 0, 0, 8, 0, 0, 0, 0, 1, 2}, count: 1},
			{base: 1, values: []string{"bad"}, attributes: transactional, producer: 7},
		}, 0, []kmsg.FetchResponseTopicPartitionAbortedTransaction{aborted(7, 0)}, nil, 2},
		{"an aborted transaction that began before", []batchSpec{
			{base: 9, values: []string{"bad"}, attributes: transactional, producer: 7},
		}, 9, []kmsg.FetchResponseTopicPartitionAbortedTransaction{aborted(7, 3)}, nil, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var raw []byte
			for _, b := range tt.batches {
				raw = append(raw, b.bytes()...)
			}
			got, c, next, err := decodeAll(t, raw, tt.pos, tt.aborted...)
			if !slices.Equal(got, tt.want) || c.Next != tt.next || next != tt.next || err != nil || c.Err != nil {
				t.Errorf("got %v, next %d and %d, errors %v and %v; want %v, next %d", got, c.Next, next, c.Err, err, tt.want, tt.next)
			}
			for cut := range raw { // a response may end anywhere
				if _, c, next, err := decodeAll(t, raw[:cut], tt.pos, tt.aborted...); next > tt.next || err != nil || c.Err != nil {
					t.Fatalf("cut at %d: next %d, errors %v and %v", cut, next, c.Err, err)
				}
			}
		})
	}
}

// TestUnreadableBatchStopsAtItsRecord: the records before it are delivered, and the position stays at the
// first record that cannot be read.
func TestUnreadableBatchStopsAtItsRecord(t *testing.T) {
	good := batchSpec{base: 498, values: []string{"a", "b"}}.bytes()
	flipped := batchSpec{base: 500, values: []string{"c"}}.bytes()
	flipped[len(flipped)-2] ^= 1
	if got, c, _, _ := decodeAll(t, append(slices.Clone(good), flipped...), 498); len(got) != 2 || c.Next != 500 || !errors.Is(c.Err, errChecksum) {
		t.Errorf("a flipped bit: %v, next %d, %v", got, c.Next, c.Err)
	}
	zip := batchSpec{base: 500, raw: []byte("no gzip"), count: 1, attributes: 1}.bytes()
	if got, c, _, _ := decodeAll(t, append(slices.Clone(good), zip...), 498); len(got) != 2 || c.Next != 500 || c.Err == nil {
		t.Errorf("invalid gzip: %v, next %d, %v", got, c.Next, c.Err)
	}
	codec := batchSpec{base: 500, raw: []byte("x"), count: 1, attributes: 7}.bytes()
	if _, c, _, _ := decodeAll(t, codec, 500); c.Next != 500 || c.Err == nil {
		t.Errorf("an unknown codec: next %d, %v", c.Next, c.Err)
	}
	one := kmsg.Record{Length: 7, Value: []byte("c")}
	for name, tt := range map[string]struct {
		raw   []byte
		count int32
		next  int64
	}{
		"a bad length":                       {[]byte{0x7f, 1, 2}, 1, 500},
		"an empty record":                    {[]byte{0}, 1, 500},
		"fewer records than the header says": {one.AppendTo(nil), 2, 501},
		"a bad length of a value":            {[]byte{14, 0, 0, 0x88, 0x0e, 1, 100, 0}, 1, 500},
		"a bad number of headers":            {[]byte{14, 0, 0, 0, 1, 2, 'x', 100}, 1, 500},
		"a number without an end":            {bytes.Repeat([]byte{0xff}, 20), 1, 500},
	} {
		raw := append(slices.Clone(good), batchSpec{base: 500, raw: tt.raw, count: tt.count, last: 9}.bytes()...)
		got, _, next, err := decodeAll(t, raw, 498)
		if !errors.Is(err, errMalformed) || next != tt.next || len(got) != int(tt.next-498) {
			t.Errorf("%s: %v, next %d, %v; want next %d", name, got, next, err, tt.next)
		}
	}
}

// TestTooManyHeadersAreAnError: a header is small in a batch and large in memory, so a record with too
// many headers is not read.
func TestTooManyHeadersAreAnError(t *testing.T) {
	for _, n := range []int{maxHeaders, maxHeaders + 1} {
		r := kmsg.Record{Value: []byte("v"), Headers: make([]kmsg.Header, n)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		got, _, _, err := decodeAll(t, batchSpec{raw: r.AppendTo(nil), count: 1}.bytes(), 0)
		if tooMany := n > maxHeaders; errors.Is(err, errHeaders) != tooMany || (len(got) == 1) == tooMany {
			t.Errorf("%d headers: %d records, %v", n, len(got), err)
		}
	}
}

// TestMessagesBeforeKafka011 reads the old message formats, plain and compressed.
func TestMessagesBeforeKafka011(t *testing.T) {
	v0 := func(offset int64, attributes int8, value []byte) []byte {
		m := kmsg.MessageV0{Offset: offset, Attributes: attributes, Value: value}
		m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
		b := m.AppendTo(nil)
		binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
		return b
	}
	v1 := func(offset int64, attributes int8, at int64, value []byte) []byte {
		m := kmsg.MessageV1{Offset: offset, Magic: 1, Attributes: attributes, Timestamp: at, Value: value}
		m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
		b := m.AppendTo(nil)
		binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
		return b
	}
	zip := gzipped
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, tt := range map[string]struct {
		raw  []byte
		pos  int64
		want []string
		next int64
	}{
		"plain 0":                     {join(v0(3, 0, []byte("a")), v0(4, 0, []byte("b"))), 4, []string{"4@-1=b"}, 5},
		"plain 1":                     {join(v1(3, 0, 77, []byte("a")), v1(9, 0, -1, []byte("b"))), 0, []string{"3@77=a", "9@-1=b"}, 10},
		"gzip 0, absolute offsets":    {v0(6, 1, zip(v0(5, 0, []byte("a")), v0(6, 0, []byte("b")))), 6, []string{"6@-1=b"}, 7},
		"gzip 1, relative offsets":    {v1(9, 1, 0, zip(v1(0, 0, 1, []byte("a")), v1(2, 0, 3, []byte("b")))), 0, []string{"7@1=a", "9@3=b"}, 10},
		"gzip 1, the broker's time":   {v1(1, 1|8, 50, zip(v1(0, 0, 1, []byte("a")), v1(1, 0, 3, []byte("b")))), 0, []string{"0@50=a", "1@50=b"}, 2},
		"followed by a modern record": {join(v1(0, 0, 1, []byte("a")), batchSpec{base: 1, values: []string{"b"}}.bytes()), 0, []string{"0@1=a", "1@1000=b"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			got, c, next, err := decodeAll(t, tt.raw, tt.pos)
			if !slices.Equal(got, tt.want) || next != tt.next || err != nil || c.Err != nil {
				t.Errorf("got %v, next %d, errors %v and %v; want %v, next %d", got, next, c.Err, err, tt.want, tt.next)
			}
		})
	}
	bad := v1(0, 0, 1, []byte("a"))
	bad[20] ^= 1
	if _, c, _, _ := decodeAll(t, bad, 0); !errors.Is(c.Err, errChecksum) || c.Next != 0 {
		t.Errorf("a flipped bit: next %d, %v", c.Next, c.Err)
	}
}

// gzipped returns the parts compressed by gzip.
func gzipped(parts ...[]byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	for _, p := range parts {
		_, _ = w.Write(p)
	}
	_ = w.Close()
	return buf.Bytes()
}

// FuzzDecode: no response makes the agent panic, or skip records after it.
func FuzzDecode(f *testing.F) {
	f.Add(batchSpec{base: 5, values: []string{"a", "bb"}}.bytes(), int64(5), true)
	f.Add(batchSpec{base: 0, raw: []byte{1, 2, 3}, count: 9, attributes: 1}.bytes(), int64(0), true)
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x10\x00\x00\x00\x00\x01\x00"), int64(7), false)
	f.Fuzz(func(t *testing.T, raw []byte, pos int64, sealed bool) {
		raw = slices.Clone(raw)
		if sealed && len(raw) >= batchHeader {
			raw[16] = 2
			seal(raw) // otherwise nearly all batches would have a wrong checksum
		}
		_, c, next, err := decodeAll(t, raw, max(0, pos))
		if err == nil && next != c.Next || len(c.batches) == 0 && next != c.Next {
			t.Errorf("next is %d after all records, want %d", next, c.Next)
		}
	})
}

// TestEachAllocatesNothing: reading a record, or appending its value, needs no allocation.
func TestEachAllocatesNothing(t *testing.T) {
	spec := batchSpec{base: 0}
	for i := range 1000 {
		spec.values = append(spec.values, fmt.Sprint("value", i))
	}
	raw := spec.bytes()
	fr := NewFrame(1)
	c := Decode(fr, largeAllowance(), &kmsg.FetchResponseTopicPartition{RecordBatches: raw}, 0, sarama.ReadCommitted)
	var sum int
	each := func(r *Record) bool { sum += len(r.Value); return true }
	runs := make([]Batch, len(c.batches))
	var p Part
	allocs := testing.AllocsPerRun(20, func() {
		copy(runs, c.batches)
		p = Part{batches: runs, Next: c.Next}
		if _, err := p.Each(each); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1 { // of the Record
		t.Errorf("%.0f allocations for 1000 records", allocs)
	}
	buf := make([]byte, 0, 64<<10)
	allocs = testing.AllocsPerRun(20, func() {
		copy(runs, c.batches)
		p = Part{batches: runs, Next: c.Next}
		v := Values{Data: buf}
		if _, _, err := p.AppendValues(&v, ValueLimits{Data: 1 << 20, Record: 1 << 20}); err != nil || v.Records != 1000 {
			t.Fatal(v.Records, err)
		}
	})
	if allocs > 0 {
		t.Errorf("%.0f allocations for the values of 1000 records", allocs)
	}
}

// largeAllowance returns an allowance that is enough for any response of a test.
func largeAllowance() *Allowance { return &Allowance{memory: new(limits.Memory), left: 64 << 20} }
