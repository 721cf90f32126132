package generation

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/reject"
	"kcagent/config"
	"kcagent/fetch/batch"
	"kcagent/limits"
	"kcagent/sink"
)

// TestChunksInProgress: a consumer has as many as the process may use cores, two at least, and not
// more than partitions. If the memory limit leaves less than 32 KiB for each of their buffers, it has
// fewer, two at least.
func TestChunksInProgress(t *testing.T) {
	t.Cleanup(func() { limits.Records.SetLimit(0) })
	for _, tc := range []struct {
		cores, partitions int
		compressed        bool
		limit             int64
		chunks, buffers   int
	}{
		{cores: 2, partitions: 100, chunks: 2, buffers: 2},
		{cores: 1, partitions: 100, chunks: 2, buffers: 2},
		{cores: 8, partitions: 100, chunks: 8, buffers: 8},
		{cores: 8, partitions: 100, compressed: true, chunks: 8, buffers: 17},
		{cores: 8, partitions: 3, chunks: 3, buffers: 3},
		{cores: 8, partitions: 1, chunks: 1, buffers: 1},
		{cores: 8, partitions: 0},
		{cores: 8, partitions: 0, compressed: true},
		{cores: 8, partitions: 100, limit: 64 << 20, chunks: 8, buffers: 8},
		{cores: 8, partitions: 100, limit: 1 << 20, chunks: 4, buffers: 4},
		{cores: 8, partitions: 100, compressed: true, limit: 1 << 20, chunks: 2, buffers: 5},
	} {
		limits.Records.SetLimit(tc.limit)
		was := runtime.GOMAXPROCS(tc.cores)
		chunks := chunksFor(tc.partitions, tc.compressed)
		runtime.GOMAXPROCS(was)
		if buffers := buffersOf(chunks, tc.compressed); chunks != tc.chunks || buffers != tc.buffers {
			t.Errorf("%+v: %d chunks and %d buffers", tc, chunks, buffers)
		}
	}
}

func TestCompresses(t *testing.T) {
	for _, tc := range []struct {
		sink sink.Spec
		want bool
	}{
		{sink.Spec{File: &sink.FileSpec{Compression: sink.Zstd}}, true},
		{sink.Spec{File: &sink.FileSpec{Compression: sink.Uncompressed}}, false},
		{sink.Spec{Objects: &sink.ObjectsSpec{Compression: sink.Gzip}}, true},
		{sink.Spec{Objects: &sink.ObjectsSpec{Compression: sink.Uncompressed}}, false},
		{sink.Spec{Stdout: &sink.StdoutSpec{}}, false},
	} {
		if got := compresses(&config.Consumer{Sink: tc.sink}); got != tc.want {
			t.Errorf("compresses for %s is %t, want %t", tc.sink.Kind(), got, tc.want)
		}
	}
}

// TestChunkBuffersFitWhatIsRead: a few small records need a small buffer, and many need one that is
// never enlarged.
func TestChunkBuffersFitWhatIsRead(t *testing.T) {
	const limit = chunkBytes
	for _, tc := range []struct {
		what            string
		record, n, fits int
		most            int
	}{
		{"one small record", 200, 1, 220, 4 << 10},
		{"some small records", 200, 100, 22_000, 32 << 10},
		{"a response of a MiB", 200, limit / 200, limit, 160 << 10},
		{"a record that is larger than expected", 20_000, 1, 220, 32 << 10},
		{"more than expected", 200, limit / 200, 220, 160 << 10},
	} {
		var c chunk
		want := 0
		for i := range tc.n {
			c.makeRoom(tc.record, tc.fits, limit)
			c.Data = append(c.Data, bytes.Repeat([]byte{byte(i)}, tc.record)...)
			want += tc.record
		}
		if cap(c.Data) > tc.most || len(c.Data) != want {
			t.Errorf("%s: a buffer of %d bytes for %d of %d", tc.what, cap(c.Data), len(c.Data), want)
		}
		for i := range tc.n {
			if c.Data[i*tc.record] != byte(i) {
				t.Fatalf("%s: record %d was overwritten", tc.what, i)
			}
		}
		c.free()
	}
}

// TestExpansionOfAPartition: the next chunk of a format that adds much to each record gets a buffer
// of the right size.
func TestExpansionOfAPartition(t *testing.T) {
	var e expansion
	if got := e.encoded(1000); got != 1000 {
		t.Errorf("%d without an earlier chunk", got)
	}
	c := chunk{records: 10, taken: 10, consumed: 100}
	c.Data = make([]byte, 1700)
	e.observe(&c)
	if got := e.encoded(1000); got < 9_900 || got > 10_100 {
		t.Errorf("%d for 1000 bytes of which 170 had 1700", got)
	}
	e.observe(&chunk{})
	if got := e.encoded(1000); got < 9_900 {
		t.Errorf("%d after a chunk without records", got)
	}
}

// A perRecord hides that an encoder appends only values, so that it is called for each record.
type perRecord struct{ sink.Encoder }

func (perRecord) ValueOnly() bool { return false }

// A rawEncoder is the encoder of the raw format.
type rawEncoder struct{ sink.AnyTime }

func (rawEncoder) Append(dst []byte, r *sink.Record) []byte {
	return append(append(dst, r.Value...), '\n')
}

func (rawEncoder) ValueOnly() bool { return true }

// A windowedEncoder is the encoder of the raw format for a sink that separates records by time.
type windowedEncoder struct {
	rawEncoder
	width int64 // of a window, in milliseconds
	shift int64 // of the windows, less than the width
}

func (e windowedEncoder) Window(t time.Time) sink.Window {
	if t.IsZero() {
		return sink.Window{To: t.Add(1)}
	}
	from := t.UnixMilli() - (t.UnixMilli()+e.shift)%e.width
	return sink.Window{From: time.UnixMilli(from), To: time.UnixMilli(from + e.width)}
}

// randomResponse returns record batches, with a message of the format before Kafka 0.11 here and
// there. Offsets have gaps. If malformed is true, the last batch has fewer records than its header
// says.
func randomResponse(random *rand.Rand, sizes []int, malformed bool) []byte {
	bytesOf := func(n int) []byte {
		if random.IntN(8) == 0 {
			return nil
		}
		return bytes.Repeat([]byte{byte('a' + random.IntN(26))}, random.IntN(n+1))
	}
	var raw []byte
	offset := int64(random.IntN(100))
	for i, batches := 0, 1+random.IntN(5); i < batches; i++ {
		offset += int64(random.IntN(3))
		if random.IntN(8) == 0 {
			m := kmsg.MessageV1{Offset: offset, Magic: 1, Timestamp: int64(random.IntN(9)) - 1, Key: bytesOf(9), Value: bytesOf(99)}
			m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
			b := m.AppendTo(nil)
			binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
			raw = append(raw, b...)
			offset++
			continue
		}
		b := kmsg.RecordBatch{FirstOffset: offset, PartitionLeaderEpoch: int32(i), Magic: 2, FirstTimestamp: int64(random.IntN(4)) - 1, MaxTimestamp: 5, ProducerID: -1}
		if random.IntN(4) == 0 {
			b.Attributes = 0x08 // LogAppendTime
		}
		for range random.IntN(40) {
			r := kmsg.Record{OffsetDelta: int32(offset - b.FirstOffset), TimestampDelta64: int64(random.IntN(3)), Key: bytesOf(9), Value: bytesOf(sizes[random.IntN(len(sizes))])}
			if random.IntN(4) == 0 {
				r.Headers = []kmsg.Header{{Key: "h", Value: bytesOf(20)}, {Value: bytesOf(20)}}
			}
			if random.IntN(100) == 0 { // few bytes, and much memory
				r.Headers = make([]kmsg.Header, LargeRecord/headerBytes-random.IntN(2))
			}
			r.Length = int32(len(r.AppendTo(nil)) - 1) // of one byte
			b.Records = r.AppendTo(b.Records)
			b.NumRecords++
			offset += 1 + int64(random.IntN(8)/7)
		}
		b.LastOffsetDelta = int32(offset - b.FirstOffset)
		offset++
		if malformed && i == batches-1 {
			b.NumRecords++
		}
		data := b.AppendTo(nil)
		binary.BigEndian.PutUint32(data[8:], uint32(len(data)-12))
		binary.BigEndian.PutUint32(data[17:], crc32.Checksum(data[21:], crc32.MakeTable(crc32.Castagnoli)))
		raw = append(raw, data...)
	}
	return raw
}

// TestValuesAreTheChunksOfSingleRecords: if an encoder appends only values, the chunks are the same
// as if it were called for each record, with all that is known about them.
func TestValuesAreTheChunksOfSingleRecords(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	rejects := reject.New(&config.Consumer{}, nil)
	allowance := batch.NewAllowance(new(limits.Memory))
	for round := range 40 {
		sizes := []int{0, 3, 50, 200}
		if round%4 == 0 {
			sizes = append(sizes, 1000, LargeRecord/escapedByte, LargeRecord/2, LargeRecord+10)
		}
		raw := randomResponse(random, sizes, round%5 == 0)
		allowance.Grant(t, 64<<20)
		frame := batch.NewFrame(1)
		content := batch.Decode(frame, &allowance, &kmsg.FetchResponseTopicPartition{RecordBatches: raw}, int64(random.IntN(120)), sarama.ReadUncommitted)
		if content.Err != nil {
			t.Fatal(content.Err)
		}
		parts := [2]batch.Part{content.Part(), content.Part()}
		for chunks := 0; !parts[0].Empty(); chunks++ {
			var got [2]string
			limit := 1 + random.IntN([]int{1, 100, 2000, chunkBytes}[random.IntN(4)])
			failed := false
			var raw sink.Encoder = rawEncoder{}
			if round%2 == 1 {
				raw = windowedEncoder{width: 2 + random.Int64N(3), shift: random.Int64N(2)}
			}
			before := random.Int64N(2) * (1 + random.Int64N(200))
			for i, encoder := range []sink.Encoder{raw, perRecord{raw}} {
				c := chunkReader{limit: limit, before: before, encoder: encoder, rejects: rejects, storeLarge: func(c chunk) error {
					got[i] += fmt.Sprintf("large %d next %d epoch %s records %d bytes %d first %v last %v count %d time %v\n",
						c.Large.Offset, c.Next, c.Epoch, c.records, c.bytes, c.first, c.last, c.Count, c.Time)
					return nil
				}}
				next, err := c.read(&parts[i])
				got[i] += fmt.Sprintf("next %d epoch %s error %v empty %v large %v records %d bytes %d last %d first %v last %v count %d time %v\n%s",
					next, parts[i].Epoch, err, parts[i].Empty(), c.large, c.records, c.bytes, c.Last, c.first, c.last, c.Count, c.Time, c.Data)
				c.free()
				failed = err != nil
			}
			if got[0] != got[1] {
				t.Fatalf("round %d, chunk %d with a limit of %d: got\n%.400s\nwant\n%.400s", round, chunks, limit, got[0], got[1])
			}
			if failed {
				break
			}
		}
		frame.Release()
	}
}

// responseOf returns a batch with a record at each offset, with a time in seconds; -1 is none. The
// value of a record is its offset, a large one if large has it.
func responseOf(offsets, seconds []int64, large int64) []byte {
	b := kmsg.RecordBatch{FirstOffset: offsets[0], Magic: 2, ProducerID: -1, NumRecords: int32(len(offsets))}
	for i, offset := range offsets {
		b.LastOffsetDelta = int32(offset - offsets[0])
		r := kmsg.Record{OffsetDelta: b.LastOffsetDelta, TimestampDelta64: max(1000*seconds[i], -1), Value: fmt.Append(nil, offset)}
		if offset == large {
			r.Value = bytes.Repeat([]byte("9"), LargeRecord)
		}
		length := binary.AppendVarint(nil, int64(len(r.AppendTo(nil))-1))
		b.Records = append(append(b.Records, length...), r.AppendTo(nil)[1:]...)
	}
	data := b.AppendTo(nil)
	binary.BigEndian.PutUint32(data[8:], uint32(len(data)-12))
	binary.BigEndian.PutUint32(data[17:], crc32.Checksum(data[21:], crc32.MakeTable(crc32.Castagnoli)))
	return data
}

// TestChunkEndsBeforeARecordThatItMayNotHave: one of another window of time, or at or after the
// limit of the sink. The position is then that of this record, or the limit, also if the chunk is
// empty.
func TestChunkEndsBeforeARecordThatItMayNotHave(t *testing.T) {
	const all = 1 << 40 // milliseconds: one window
	skip := reject.New(&config.Consumer{Decode: config.Decode{Value: config.DecodeJSON}, OnError: config.OnError{Action: config.Skip}}, nil)
	for name, tc := range map[string]struct {
		offsets, seconds []int64
		large, before    int64
		width, shift     int64  // of the windows
		want             string // each chunk as its values, its number of records and their first time, and the next offset
	}{
		"windows":              {offsets: []int64{5, 6, 7, 8}, seconds: []int64{1, 9, 10, 3}, width: 10_000, want: "5 6 n2 t1 →7, 7 n1 t10 →8, 8 n1 t3 →9"},
		"no timestamp":         {offsets: []int64{5, 6, 7, 8}, seconds: []int64{-1, -1, 0, -1}, width: 10_000, want: "5 6 n2 →7, 7 n1 t0 →8, 8 n1 →9"},
		"none beside 1970":     {offsets: []int64{5, 6, 7}, seconds: []int64{0, -1, 1}, width: 10_000, shift: 5000, want: "5 n1 t0 →6, 6 n1 →7, 7 n1 t1 →8"},
		"gap before a window":  {offsets: []int64{5, 9}, seconds: []int64{1, 11}, width: 10_000, want: "5 n1 t1 →9, 9 n1 t11 →10"},
		"large record":         {offsets: []int64{5, 6, 7}, seconds: []int64{1, 11, 12}, large: 6, width: 10_000, want: "5 n1 t1 →6, large n1 t11 →7, 7 n1 t12 →8"},
		"limit":                {offsets: []int64{5, 6, 7}, seconds: []int64{1, 1, 1}, before: 7, width: all, want: "5 6 n2 t1 →7, n0 →7"},
		"limit in a gap":       {offsets: []int64{5, 9}, seconds: []int64{1, 1}, before: 7, width: all, want: "5 n1 t1 →7, n0 →9"},
		"limit before a gap":   {offsets: []int64{9, 10}, seconds: []int64{1, 1}, before: 7, width: all, want: "n0 →7"},
		"limit is the first":   {offsets: []int64{5, 6}, seconds: []int64{1, 1}, before: 5, width: all, want: "n0 →5"},
		"limit before a large": {offsets: []int64{5, 6}, seconds: []int64{1, 1}, large: 6, before: 6, width: all, want: "5 n1 t1 →6, n0 →6"},
		"limit after all":      {offsets: []int64{5, 6}, seconds: []int64{1, 1}, before: 100, width: all, want: "5 6 n2 t1 →7"},
	} {
		content := batch.Decode(batch.NewFrame(1), grantedAllowance(t), &kmsg.FetchResponseTopicPartition{RecordBatches: responseOf(tc.offsets, tc.seconds, tc.large)}, 0, sarama.ReadUncommitted)
		raw := windowedEncoder{width: tc.width, shift: tc.shift}
		for way, r := range map[string]chunkReader{
			"values":  {encoder: raw, rejects: reject.New(&config.Consumer{}, nil)},
			"records": {encoder: perRecord{raw}, rejects: reject.New(&config.Consumer{}, nil)},
			"decoded": {encoder: raw, rejects: skip},
		} {
			part, at := content.Part(), int64(0)
			var got []string
			for !part.Empty() {
				c := r
				c.limit, c.start, c.before = chunkBytes, at, tc.before
				var large []string
				c.storeLarge = func(c chunk) error {
					large = []string{"large " + describe(c.Chunk)}
					return nil
				}
				next, err := c.read(&part)
				if err != nil {
					t.Fatal(err)
				}
				text := strings.Join(append(strings.Fields(string(c.Data)), large...), " ")
				if large == nil {
					text = strings.TrimSpace(text + " " + describe(c.Chunk))
				}
				got = append(got, fmt.Sprintf("%s →%d", text, next))
				at = next
				if c.free(); c.taken == 0 {
					break
				}
			}
			if got := strings.Join(got, ", "); got != tc.want {
				t.Errorf("%s as %s: %s, want %s", name, way, got, tc.want)
			}
		}
	}
}

func describe(c sink.Chunk) string {
	text := fmt.Sprintf("n%d", c.Count)
	if !c.Time.IsZero() {
		text += fmt.Sprintf(" t%d", c.Time.Unix())
	}
	return text
}

// TestRejectedRecordsHaveNoWindow: the window of a chunk is that of the records that the sink stores.
func TestRejectedRecordsHaveNoWindow(t *testing.T) {
	raw := responseOf([]int64{5, 6, 7, 8}, []int64{1, 11, 22, 12}, -1)
	for _, i := range []int{bytes.LastIndexByte(raw, '5'), bytes.LastIndexByte(raw, '7')} {
		raw[i] = '{'
	}
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	content := batch.Decode(batch.NewFrame(1), grantedAllowance(t), &kmsg.FetchResponseTopicPartition{RecordBatches: raw}, 0, sarama.ReadUncommitted)
	part := content.Part()
	c := chunkReader{limit: chunkBytes, encoder: windowedEncoder{width: 10_000}, rejects: reject.New(
		&config.Consumer{Decode: config.Decode{Value: config.DecodeJSON}, OnError: config.OnError{Action: config.Skip}}, nil)}
	if next, err := c.read(&part); err != nil || next != 9 || string(c.Data) != "6\n8\n" || describe(c.Chunk) != "n2 t11" {
		t.Errorf("%q, %s, next %d, %v", c.Data, describe(c.Chunk), next, err)
	}
}

func grantedAllowance(t *testing.T) *batch.Allowance {
	t.Helper()
	a := batch.NewAllowance(new(limits.Memory))
	a.Grant(t, 64<<20)
	return &a
}
